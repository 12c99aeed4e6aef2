"""What kills, full disks and careless copies leave behind: computed again, or one line with the remedy."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file

import patchboard.engine.load
import patchboard.execution.run
from patchboard.execution.run import Options, run_study
from patchboard.spec import study_of
from tests.conftest import ROOT
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree, write

pytestmark = pytest.mark.drawn

# one of each kind in the default suite
slow = functools.partial(pytest.param, marks=pytest.mark.slow)

TABLES = ("outcomes", "effects", "curves", "decodability", "prompts")


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same_results(folder: Path, other: Path) -> bool:
    """Tables and vectors to the bit, and nothing lying about."""
    vectors, others = (load_file(f / "vectors.safetensors") for f in (folder, other))
    return (
        all(pl.read_parquet(folder / f"{t}.parquet").equals(pl.read_parquet(other / f"{t}.parquet")) for t in TABLES)
        and vectors.keys() == others.keys()
        and all(vectors[key].equal(others[key]) for key in vectors)
        and {p.name for p in folder.iterdir()} == {p.name for p in other.iterdir()}
        and manifest_of(folder)["fallbacks"] == manifest_of(other)["fallbacks"]
    )


@pytest.fixture(scope="module")
def whole(llama_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run(tiny_tree(llama_folder), out) == 0
    return out


@pytest.fixture
def finished(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.fixture
def stopped(llama_folder, tmp_path) -> Path:
    """A run interrupted when two of its three packs were done."""

    def stop(phase: str, done: int, of: int) -> None:
        if phase == "packs" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study_of(tiny_tree(llama_folder)), Options(out=tmp_path / "run", tick=stop))
    return tmp_path / "run"


DIE_AT = """
import os, signal, sys
import patchboard.store.folder as folder
from patchboard.commands.main import main
real, left = os.replace, [int(sys.argv[1])]
def replace(a, b):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(a, b)
folder.os.replace = replace
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_a_kill_in_the_first_write_locks_nobody_out(llama_folder, whole, tmp_path):
    tree, out = tiny_tree(llama_folder), tmp_path / "run"
    arguments = ["run", write(tree, tmp_path / "spec.yaml"), "--out", str(out), "--quiet"]
    died = subprocess.run([sys.executable, "-c", DIE_AT, "1", *arguments], cwd=ROOT, timeout=120)
    assert died.returncode == -9
    assert not (out / "manifest.json").exists() and list(out.glob(".manifest.*.json")), "the kill came too late"
    assert run(tree, out) == 0
    assert same_results(out, whole)


@pytest.mark.parametrize(
    "name", [".outcomes.77.parquet", *map(slow, ("parts/.p0-AND-q0-c0.77.parquet", ".vectors.77.safetensors"))]
)
def test_what_a_kill_left_half_written_goes(stopped, llama_folder, whole, name):
    (stopped / name).write_text("half")
    assert run(tiny_tree(llama_folder), stopped) == 0
    assert same_results(stopped, whole)


def test_a_hidden_file_that_no_run_writes_is_somebody_elses(llama_folder, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".thesis.77.tex").write_text("years of work")
    assert run(tiny_tree(llama_folder), out) == 2
    assert "holds other things than a run" in one_error(capsys)
    assert everything(out) == {".thesis.77.tex": b"years of work"}


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [cut, *map(slow, (empty, shorten))])
@pytest.mark.parametrize("pattern", ["parts/*.parquet", *map(slow, ("parts/*.npz", "vectors.safetensors"))])
def test_a_damaged_part_is_computed_again(stopped, llama_folder, whole, pattern, damage):
    victims = list(stopped.glob(pattern))
    assert victims
    for victim in victims[:1]:
        damage(victim)
    assert run(tiny_tree(llama_folder), stopped) == 0
    assert same_results(stopped, whole)


@pytest.mark.parametrize("damage", [cut, shorten, remove])
@pytest.mark.parametrize(
    "name", ["spec.yaml", "plan.json", "prompts.parquet", "effects.parquet", "curves.parquet", "summary.json"]
)
def test_a_finished_run_makes_again_what_needs_no_model(finished, llama_folder, monkeypatch, name, damage):
    def refuse(*args):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(patchboard.engine.load, "load_weights", refuse)
    before = everything(finished)
    damage(finished / name)
    assert run(tiny_tree(llama_folder), finished, "--json") == 0
    after = everything(finished)
    if name.endswith("parquet"):
        assert pl.read_parquet(finished / name).equals(pl.read_parquet(before[name]))
    else:
        assert after[name] == before[name]
    assert {k: v for k, v in after.items() if k != name} == {k: v for k, v in before.items() if k != name}


@pytest.mark.parametrize("damage", [cut, remove])
def test_a_damaged_page_is_drawn_again(finished, llama_folder, damage):
    damage(finished / "report.html")
    assert run(tiny_tree(llama_folder), finished) == 0
    assert (finished / "report.html").read_text().rstrip().endswith("</html>")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, *map(slow, (shorten, remove))])
@pytest.mark.parametrize("name", ["outcomes.parquet", "decodability.parquet", "vectors.safetensors", "manifest.json"])
def test_what_needs_the_model_is_one_line_and_fresh_mends_it(finished, whole, llama_folder, capsys, name, damage):
    damage(finished / name)
    before = everything(finished)
    assert run(tiny_tree(llama_folder), finished) == 2
    line = one_error(capsys)
    assert name in line and "--fresh" in line
    assert everything(finished) == before
    assert run(tiny_tree(llama_folder), finished, "--fresh") == 0
    assert same_results(finished, whole)


@pytest.mark.parametrize("text", ['{"name": "web-app", "version": "1.0"}', "[]", '{"digest": 3, "version": 1}', "{"])
def test_another_programs_manifest_is_left_alone(llama_folder, tmp_path, capsys, text):
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    (out / "manifest.json").write_text(text)
    (out / "figures" / "logo.png").write_text("theirs")
    before = everything(out)
    for arguments in ([], ["--fresh"]):
        assert run(tiny_tree(llama_folder), out, *arguments) == 2
        assert "manifest.json" in one_error(capsys)
        assert everything(out) == before


def test_fresh_spares_a_damaged_run_with_other_things_beside_it(finished, llama_folder, capsys):
    cut(finished / "manifest.json")
    (finished / "thesis.tex").write_text("years of work")
    before = everything(finished)
    assert run(tiny_tree(llama_folder), finished, "--fresh") == 2
    assert "manifest.json" in one_error(capsys)
    assert everything(finished) == before


@pytest.mark.parametrize("name", ["seed[1]", slow("what?[0]*")])
def test_any_folder_name_will_do(llama_folder, whole, tmp_path, name):
    for _ in range(2):  # run, and found finished
        assert run(tiny_tree(llama_folder), tmp_path / name) == 0
    (tmp_path / name / "effects.parquet").unlink()
    assert run(tiny_tree(llama_folder), tmp_path / name) == 0
    Path(tmp_path / name).rename(tmp_path / "plain")
    assert same_results(tmp_path / "plain", whole)


@pytest.mark.parametrize("argument", ["--layers=9", "--interventions.p.vector.shots=500", "--tasks.bits=7"])
def test_bad_input_into_an_empty_folder_leaves_it_empty(llama_folder, tmp_path, capsys, argument):
    out = tmp_path / "out"
    out.mkdir()
    assert run(tiny_tree(llama_folder), out, argument) == 2
    one_error(capsys)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("fresh", [True, False])
def test_the_plans_are_made_once(llama_folder, tmp_path, monkeypatch, fresh):
    made = []
    real = patchboard.execution.run.build_plans
    monkeypatch.setattr(patchboard.execution.run, "build_plans", lambda *a: made.append(1) or real(*a))
    tree = tiny_tree(llama_folder, interventions={}, decodability=None)
    run_study(study_of(tree), Options(out=tmp_path / "run", fresh=fresh))
    assert len(made) == 1
