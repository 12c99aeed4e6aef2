"""The command line as its users meet it: one-line errors, resume after a kill, plans without weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file

from patchboard.commands.main import main
from tests.conftest import ROOT, small_tree_of


@pytest.fixture
def spec_file(tmp_path, small_tree) -> Path:
    path = tmp_path / "spec.yaml"
    YAML(typ="safe").dump(small_tree, path)
    return path


WRONG = {
    "--prompts.shots=four": "prompts.shots: found the text 'four', expected a whole number",
    "--prompts.shot=4": "--prompts.shot: ",
    "--interventions.positve.strength=2": "did you mean 'positive'?",
    "--interventions.positive.op=pach": "interventions.positive.op: unknown op 'pach'; did you mean 'patch'?",
    "--interventions.positive.position=lst": "unknown position 'lst'; did you mean 'last'?",
    "--interventions.positive.vector.mean=some_task": "interventions.positive.vector.mean: unknown task 'some_task'",
    "--interventions.erased.vector.rank=9": "interventions.erased.vector.rank: 9 dimensions of 4 labels; use at most 3",
    "--metrics=[acuracy]": "metrics[0]: unknown metric 'acuracy'; did you mean 'accuracy'?",
    "--controls=[others]": "unknown control 'others'",
    "--tasks.family=bitwize": "tasks.family: unknown task family 'bitwize'; did you mean 'bitwise'?",
    "--tasks.only=[AND, XNORR]": "did you mean 'XNOR'?",
    "--tasks.bits=7": "prompt of AND can be used: '0001010' is not in the tokenizer's vocabulary",
    "--layers=9": "there is no layer 9, the model has 4",
    "--layers=a:b": "'a:b'",
    "--prompts.shots=500": "a prompt of 500 shots needs 501",
    "--model=./no-such-folder": "there is no folder './no-such-folder'",
    "--engine=fast": "--engine: there is no engine 'fast'; choose one of auto, rows, wavefront",
    "--engine=packed": "--engine: there is no engine 'packed'; use wavefront",
    "--bogus": "--bogus: ",
    "--statistics.level={sweep: [0.9, 0.95]}": "statistics.level: cannot be swept",
}


@pytest.mark.parametrize("argument", WRONG)
def test_wrong_input_is_one_line_and_leaves_nothing(spec_file, tmp_path, capsys, argument):
    out = tmp_path / "out"
    assert main(["run", str(spec_file), "--out", str(out), argument]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), captured.err
    assert WRONG[argument] in lines[0]
    assert "; " in lines[0], "a remedy"
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("interventions:\n\ta: 1\n", "tab"),
        ("name: a\nname: b\n", "name"),
        ("- 1\n", "expected a mapping"),
        ("version: 2\n", "version 1"),
        ("interventions: {a: {layers: 1}}\n", "interventions.a"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, capsys, text, says):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    assert main(["validate", str(path)]) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith("error: ") and "\n" not in err and says in err


def patchboard(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "patchboard", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, **options)


def test_plan_needs_no_weights_and_prints_json(spec_file, llama_folder, tmp_path, capsys):
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in llama_folder.iterdir():
        if file.suffix == ".json" and "index" not in file.name:
            (bare / file.name).write_bytes(file.read_bytes())
    assert main(["plan", str(spec_file), "--model", str(bare), "--json"]) == 0
    (plan,) = json.loads(capsys.readouterr().out)["models"]
    assert plan["layers"] == 4 and plan["cost"]["loop_forwards"] > 10 * plan["cost"]["forwards"]
    assert plan["cost"]["bound"] <= plan["cost"]["token_layers"] <= plan["cost"]["loop_token_layers"]


def test_validate_imports_no_torch(spec_file):
    code = (
        f"import sys; from patchboard.commands.main import main; main(['validate', {str(spec_file)!r}]);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_listing_and_schema(capsys):
    assert main(["ls"]) == 0
    listed = capsys.readouterr().out
    for name in ("bitwise", "leace", "ablate", "other_task", "logit_difference", "demo_outputs", "gemma2"):
        assert name in listed
    assert main(["schema"]) == 0
    assert "interventions" in json.loads(capsys.readouterr().out)["properties"]


def start(spec: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "patchboard", "run", str(spec), "--out", str(out), "--quiet"]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def wait_for_parts(process: subprocess.Popen, out: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(list((out / "parts").glob("[!.]*.parquet"))) < count:  # a dot begins what is still being written
        assert process.poll() is None, f"the run ended before it could be stopped: {process.stderr}"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def uninterrupted(llama_folder, tmp_path_factory) -> tuple[Path, Path]:
    """A spec of a few packs, and the folder of its whole run."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    tree = small_tree_of(llama_folder)
    tree["interventions"] = {name: tree["interventions"][name] for name in ("positive", "added")}
    YAML(typ="safe").dump(tree, folder / "spec.yaml")
    done = patchboard("run", str(folder / "spec.yaml"), "--out", str(folder / "run"), "--quiet")
    assert done.returncode == 0, done.stderr
    return folder / "spec.yaml", folder / "run"


@pytest.mark.slow  # test_damaged_runs stops runs in its own process
@pytest.mark.parametrize(("stop", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_stopped_run_resumes_to_the_same_tables(uninterrupted, tmp_path, stop, status):
    """Killed or interrupted in its packs, then run again: the same numbers as never stopped, to the bit."""
    (spec_file, whole), stopped = uninterrupted, tmp_path / "stopped"
    process = start(spec_file, stopped)
    wait_for_parts(process, stopped, 2)
    os.kill(process.pid, stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    if stop == signal.SIGINT:
        assert "the same command resumes" in err and "Traceback" not in err
    kept = {p.name: p.stat().st_mtime_ns for p in (stopped / "parts").glob("[!.]*.parquet")}
    assert len(kept) >= 2 and not (stopped / "report.html").exists()
    again = patchboard("run", str(spec_file), "--out", str(stopped), "--json")
    assert again.returncode == 0, again.stderr
    json.loads(again.stdout)
    for name in ("outcomes", "effects", "curves", "decodability", "prompts"):
        assert pl.read_parquet(stopped / f"{name}.parquet").equals(pl.read_parquet(whole / f"{name}.parquet")), name
    vectors, others = load_file(stopped / "vectors.safetensors"), load_file(whole / "vectors.safetensors")
    assert vectors.keys() == others.keys() and all(torch.equal(vectors[key], others[key]) for key in vectors)
    assert (stopped / "summary.json").read_text() == (whole / "summary.json").read_text()


def test_an_override_may_hold_spaces(small_tree, tmp_path, capsys):
    """As README writes a sweep; argparse alone would take it for SPEC.yaml."""
    spec = tmp_path / "spec.yaml"
    YAML(typ="safe").dump(small_tree, spec)
    name = next(iter(small_tree["interventions"]))
    swept = f"--interventions.{name}.layers={{sweep: [[0], [1]]}}"
    assert main(["plan", str(spec), "--json", swept]) == 0
    behind = capsys.readouterr().out
    assert main(["plan", swept, str(spec), "--json"]) == 0
    assert capsys.readouterr().out == behind
    assert main(["plan", str(spec), "--json"]) == 0
    assert capsys.readouterr().out != behind
