"""experiments/hijack.py as a user meets it: its folder, resuming, and one line for what cannot be meant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from patchboard.experiments.hijack.tables import TABLES
from tests.scripts import ran

ROOT = Path(__file__).parents[2]


def script(*arguments: object) -> tuple[int, str, str]:
    """(status, output, errors)"""
    return ran("hijack.py", *arguments)


TINY = (
    "--model.width=16", "--training.steps=4", "--training.batch=4", "--training.length=16", "--training.checkpoint=2",
    "--prompts.each=20", "--prompts.counts=[0, 2]", "--prompts.distances=[2, 9]", "--prompts.lengths=[12, 24]",
    "--prompts.shown=2", "--statistics.bootstrap=100", "--model.positions=[absolute, rotary, relative]",
)  # fmt: skip


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_script_runs_and_finds_its_result_again(tmp_path, monkeypatch):
    out = tmp_path / "run"
    status, told, _ = script(*TINY, "--out", out)
    assert status == 0 and str(out / "report.html") in told
    for name, columns in TABLES.items():
        table = pl.read_parquet(out / name)
        assert dict(table.schema) == columns
        assert set(table["positions"]) == {"absolute", "rotary", "relative"}
    assert sorted(each.stem for each in (out / "figures").glob("*.png")) == ["count", "distance", "length", "places"]
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4 and not page.count('src="figures')
    assert not (out / "parts").exists()
    before = {each: each.stat().st_mtime_ns for each in out.rglob("*") if each.is_file()}
    status, told, _ = script(*TINY, "--out", out, "--json")
    assert status == 0 and len(json.loads(told)["models"]) == 3
    assert {each: each.stat().st_mtime_ns for each in out.rglob("*") if each.is_file()} == before
    (out / "report.html").unlink()
    with monkeypatch.context() as patched:
        patched.setattr("patchboard.experiments.hijack.models.trained_models", interrupted)
        assert script(*TINY, "--out", out)[0] == 0 and (out / "report.html").read_text() == page, "from the tables"
        (out / "margins.parquet").unlink()
        assert script(*TINY, "--out", out)[0] == 130
    status, _, error = script(*TINY, "--training.steps=5", "--out", out)
    assert status == 2 and "given twice" in error
    older = json.loads((out / "manifest.json").read_text())
    older["identity"]["results"] -= 1
    (out / "manifest.json").write_text(json.dumps(older))
    status, _, error = script(*TINY, "--out", out)
    assert status == 2 and "holds numbers of results version" in error
    status, _, error = script(*TINY[2:], "--out", out)
    assert status == 2 and "another spec" in error and error.count("\n") == 1


@pytest.mark.slow
def test_an_interrupted_run_is_taken_up(tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    script(*TINY, "--out", whole, "--quiet")

    with monkeypatch.context() as patched:
        patched.setattr("patchboard.experiments.hijack.models.measured", interrupted)
        status, _, told = script(*TINY, "--out", broken)
    assert status == 130 and "resumes" in told
    assert len(list((broken / "parts").glob("*.pt"))) == 3
    assert script(*TINY, "--out", broken, "--quiet")[0] == 0
    for name in TABLES:
        assert pl.read_parquet(whole / name).equals(pl.read_parquet(broken / name))


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--training.stepz=3", "--training.stepz: unknown key 'stepz'; did you mean 'steps'?"),
        ("--trainig.steps=3", "--trainig.steps: is neither a flag nor a field; did you mean 'training'?"),
        ("--training.steps", "--training.steps: has no value; write --training.steps=VALUE"),
        ("--training.steps=0", "--training.steps: found 0, expected at least 1; write 1 or more"),
        ("--model.positions=[absolut]", "--model.positions: found the text 'absolut'"),
        ("--prompts.counts.0=3", "--prompts.counts.0: names an entry of prompts.counts; set it whole"),
        ("--prompts.counts=[40]", "--prompts.counts: found 40, 64 tokens have room for 31 pairs; write fewer"),
        ("--prompts.distances=[63]", "--prompts.distances: found 63, a prompt of 64 tokens has room for 62"),
        ("--prompts.shown=16", "--prompts.shown: found 16, 32 tokens have room for 15 pairs"),
        ("--language.triggers=20", "--language.triggers: found 20 of 20 common tokens"),
        ("--language.common=64", "--language.common: found 64, expected 2 to 63 of 65 tokens"),
        ("steps=3", "steps=3: cannot be read (No such file or directory)"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_nothing_is_written(argument, told, tmp_path):
    status, output, error = script(argument, "--out", tmp_path / "run")
    assert status == 2 and not output
    assert error.startswith(f"error: {told}") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_unknown_keys_of_the_file_are_refused(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("experiment: hijack\ntraining: {step: 3}\n")
    assert script(file)[2] == "error: training.step: unknown key 'step'; did you mean 'steps'?\n"
    file.write_text("experiment: synthetic\n")
    assert "mine.yaml: holds the settings of experiments/synthetic.py" in script(file)[2]


def test_both_shipped_files_are_planned():
    for flags in ([], ["--full"]):
        status, told, _ = script("--plan", "--json", *flags)
        assert status == 0 and json.loads(told)["steps of each"] >= 500


def test_a_plan_loads_nothing_heavy():
    code = (
        "import runpy, sys\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as left:\n    heavy = {'torch', 'matplotlib'} & set(sys.modules)\n"
        "    sys.exit(str(heavy) if heavy else left.code)\n"
    )
    start = f"import sys; sys.argv = ['experiments/hijack.py', '--plan']; exec({code!r})"
    done = subprocess.run([sys.executable, "-c", start], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "tokens that each is trained on" in done.stdout
