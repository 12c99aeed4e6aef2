"""`patchboard emit`: a script without this package has the run's own numbers, for whatever is registered."""

from __future__ import annotations

import ast
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from patchboard.commands.main import main
from patchboard.engine.families import ARCHITECTURES
from patchboard.metrics import METRICS
from patchboard.metrics.base import against_source, is_normalised
from patchboard.ops import OPS
from patchboard.plan.controls import CONTROLS
from patchboard.spec.sites import PATTERN, SITES
from tests.contract.tiny import one_error, write
from tests.models import SIZES, random_model, save

VECTOR = {"mean": "same_task", "shots": 2, "prompts": 4}
SUBSPACE = {**VECTOR, "mean": None, "subspace": "tasks", "rank": 2}
OPERANDS = {
    "vector": {"vector": VECTOR},
    "subspace": {"vector": SUBSPACE},
    "state": {"source": "same_task"},
    "none": {},
}
ALLOWED = {"torch", "numpy", "nnsight", "transformers"} | set(sys.stdlib_module_names)
WITHIN = 1e-5


def interventions() -> dict[str, Any]:
    """Every op, site and kind of vector; positions of one token and of several; edits in several places."""
    found: dict[str, Any] = {
        f"op-{name}": {"op": name, "layers": 1, **OPERANDS[op.operand]}
        for name, op in OPS.items()
        if op.operand not in ("features", "edges", "path", "noise", "subspace and state")
    }
    sites = (site for site in SITES if site != PATTERN)
    found |= {f"site-{site}": {"op": "patch", "vector": VECTOR, "site": site, "layers": 2} for site in sites}
    found["site-head"]["heads"] = [1, 3]
    found["site-k"]["heads"] = 1
    found["site-mlp_act"]["neurons"] = [3, 17]
    difference = {**VECTOR, "mean": None, "difference": ["same_task", "all_tasks"]}
    function = {**VECTOR, "mean": None, "function_vector": "same_task", "heads": [[1, 0], [3, 2], [1, 3]]}
    return found | {
        "difference": {"op": "add", "vector": difference, "layers": [0, 1, 3], "strength": {"sweep": [0.5, 1.5]}},
        "null": {"op": "patch", "vector": {**VECTOR, "mean": "null_task", "only": "all"}, "layers": 3, "position": -2},
        "leace": {"op": "ablate", "vector": {**SUBSPACE, "method": "leace", "prompts": 12}, "layers": 2},
        "function": {"op": "add", "vector": function, "layers": 2},
        "given": {"op": "resample", "layers": 1, "site": "head", "heads": 2, "position": ["last", "demo_inputs"]},
        "elsewhere": {
            "op": "patch",
            "layers": 2,
            "position": ["last", "query"],
            "source": {"name": "same_task", "layer": 0, "site": "attn_out", "position": "last", "align": "all"},
        },
        "put_back": {
            "edits": [
                {"op": "add", "source": {"name": "clean", "layer": 1, "position": "query.last"}, "layers": 2},
                {"op": "patch", "source": "clean", "site": "mlp_out", "layers": 3},
            ]
        },
        "whole": {"op": "patch", "vector": VECTOR, "layers": {"together": "all"}, "position": "demo_outputs"},
        "several": {
            "edits": [
                {"op": "add", "vector": VECTOR, "layers": [0, 2]},
                {"op": "zero", "site": "mlp_out", "layers": 2, "position": "query"},
                {"op": "scale", "strength": 0.5, "site": "resid_pre", "layers": 1},
                {"op": "scale", "strength": 3, "layers": 0},
            ]
        },
    }


OF_THE_RUN = [
    name
    for name, metric in METRICS.items()
    if metric.answers_of == "own" and not against_source(metric) and not is_normalised(metric)
]


def tree_of(model: Path) -> dict[str, Any]:
    return {
        "name": "everything",
        "model": {"name": str(model)},
        "tasks": {"family": "bitwise", "bits": 4, "only": ["AND", "XOR"]},
        "prompts": {"shots": 1, "queries": 4},
        "interventions": interventions(),
        "controls": ["self", {"random": {"draws": 2}}, "other_task", "shuffled"],
        "metrics": [name for name, metric in METRICS.items() if metric.answers_of == "own"],
        "decodability": None,
        "statistics": {"bootstrap": 100},
    }


@pytest.fixture(scope="module")
def spec(llama_folder, tmp_path_factory) -> Path:
    """A spec of everything, run in the default folder beside it."""
    folder = tmp_path_factory.mktemp("emitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("patchboard.execution.run._report", lambda folder: None)  # figures take twenty times as long
        assert main(["run", write(tree_of(llama_folder), folder / "spec.yaml"), "--quiet", "--wandb", "off"]) == 0
    return folder / "spec.yaml"


@pytest.fixture(autouse=True)
def beside_the_spec(spec, monkeypatch):
    monkeypatch.chdir(spec.parent)


def imports_of(script: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(script.read_text())))
    found = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return found | {node.module.split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def values_of(script: Path) -> list[tuple]:
    """What the script's main gives, in this process, where nothing of the project can be imported."""
    assert imports_of(script) <= ALLOWED
    with pytest.MonkeyPatch.context() as patch:
        for name in list(sys.modules):
            if name.split(".")[0] == "patchboard":
                patch.setitem(sys.modules, name, None)
        return runpy.run_path(str(script))["main"]()


def test_every_op_site_metric_control_and_vector_has_the_runs_values(tmp_path, capsys):
    script = tmp_path / "elsewhere" / "everything.py"
    assert main(["emit", "spec.yaml", "--control", "all", "--queries", "2", "--out", str(script)]) == 0
    rows = values_of(script)
    assert rows and "largest difference from the run" in capsys.readouterr().out
    own, run = np.array([row[3:5] for row in rows]), np.array([row[5:7] for row in rows])
    np.testing.assert_allclose(own, run, rtol=0, atol=WITHIN)  # NaN equals NaN
    text = script.read_text()
    left_out = ("clamp_features", "knock_out", "path", "noise", "swap")
    assert all(f"def {name}(h, operand, strength)" in text for name in OPS.names() if name not in left_out)
    assert all(f'"site": "{site}"' in text for site in SITES if site != PATTERN)
    assert {row[2] for row in rows} == {*OF_THE_RUN, "conversion"}, "others need runs that the script has not"
    held = {name.split(",")[0] for name, *_ in rows}
    assert {name for name in interventions()} <= held
    assert all(
        any(f"({control})" in name for name in held)
        for control in CONTROLS.names()
        if control not in ("random_edges", "random_heads", "unrelated")
    )
    edited = [row for row in rows if row[2] == "logprob" and "(self)" not in row[0]]
    assert np.mean([abs(row[4] - row[3]) > 1e-3 for row in edited]) > 0.8, "edits without effect would prove nothing"
    # the run's values in the script are those of its table, and not the script's own
    table = pl.read_parquet(spec_run() / "outcomes.parquet")
    some = table.filter(pl.col("intervention") == "op-zero", pl.col("control") == "", pl.col("metric") == "kl")
    stored = some.filter(pl.col("task") == "AND", pl.col("query") == 1)["patched"].item()
    (shown,) = (row[6] for row in rows if row[0].startswith("op-zero, on AND") and row[1:3] == (1, "kl"))
    assert shown == pytest.approx(stored, rel=1e-7) and stored != 0


def spec_run() -> Path:
    (folder,) = Path("runs").iterdir()
    return folder


def test_answers_of_several_tokens_and_positions_within_them(tmp_path, gpt2_folder, monkeypatch):
    """On another family, whose module paths differ; from a run's folder."""
    monkeypatch.setattr("patchboard.execution.run._report", lambda folder: None)
    rows = {
        "first": {"old baker": "the old baker", "cold river": "the cold river", "boat he": "boat we"},
        "second": {"old baker": "baker", "cold river": "river mountain", "boat he": "we him letter"},
    }
    for name, pairs in rows.items():
        more = {f"{a} {b}": f"{b} {a} he"[:40] for a in ("he", "we", "him") for b in ("boat", "letter", "river")}
        listed = [{"input": key, "output": value} for key, value in {**pairs, **more}.items()]
        (tmp_path / f"{name}.json").write_text(json.dumps(listed))
    tree = tree_of(gpt2_folder) | {
        "name": "words",
        "tasks": {"family": "pairs", "files": [str(tmp_path)], "include_null": False},
        "interventions": {
            "p": {
                "op": "patch",
                "vector": {**VECTOR, "mean": "other_task"},
                "layers": [1, 2],
                "position": ["last", "answer"],
            },
            "q": {"op": "zero", "site": "attn_out", "layers": {"together": [0, 3]}},
        },
        "controls": ["self"],
        "metrics": OF_THE_RUN,
    }
    path = write(tree, tmp_path / "words.yaml")
    assert main(["run", path, "--out", str(tmp_path / "run"), "--quiet", "--wandb", "off"]) == 0
    assert (
        main(["emit", str(tmp_path / "run"), "--task", "all", "--layer", "all", "--out", str(tmp_path / "w.py")]) == 0
    )
    found = values_of(tmp_path / "w.py")
    own, run = np.array([row[3:5] for row in found]), np.array([row[5:7] for row in found])
    np.testing.assert_allclose(own, run, rtol=0, atol=WITHIN)
    assert {row[0] for row in found if "p," in row[0]} >= {f"p, on first, vector second, layer {n}" for n in (1, 2)}
    assert "transformer.h[layer]" in (tmp_path / "w.py").read_text()
    answers = [len(query["answer"]) for query in runpy.run_path(str(tmp_path / "w.py"))["QUERIES"]["second"]]
    assert max(answers) > 1


def test_the_cells_are_chosen_by_name(tmp_path):
    out = tmp_path / "some.py"
    chosen = ["--intervention", "difference", "--layer", "1,3", "--task", "XOR", "--queries", "1"]
    setting = ["--setting", "interventions.difference.strength=1.5"]
    assert main(["emit", "spec.yaml", *chosen, *setting, "--out", str(out)]) == 0
    cells = runpy.run_path(str(out))["CELLS"]
    tail = "interventions.difference.strength=1.5"
    assert [cell["name"] for cell in cells] == [f"difference, on XOR, layer {n}, {tail}" for n in (1, 3)]
    assert all(edit["strength"] == 1.5 for cell in cells for edit in cell["edits"])


def test_without_a_run_values_stand_alone_and_what_is_not_used_is_not_there(tmp_path):
    out = tmp_path / "zero.py"
    assert main(["emit", "spec.yaml", "--prompts.seed=7", "--intervention", "op-zero", "--out", str(out)]) == 0
    text = out.read_text()
    assert "No finished run was found" in text and not (tmp_path / "zero.fit.json").exists()
    assert "def add(" not in text and "SubspaceTensors" not in text and "VECTORS" not in text
    assert all(len(row) == 5 for row in values_of(out))


WRONG = {
    ("--intervention", "op-zeros"): "--intervention: no intervention 'op-zeros' in this spec; did you mean 'op-zero'?",
    ("--control", "randm"): "--control: no control 'randm' in this spec; did you mean 'random'?",
    ("--task", "ANDD"): "--task: no task 'ANDD' in this spec; did you mean 'AND'?",
    ("--layer", "9"): "--layer: there is no layer 9, the model has 4",
    ("--intervention", "op-zero", "--layer", "3"): "--layer: op-zero has no cell at layer 3; its cells are at layers 1",
    ("--intervention", "site-head", "--head", "2"): "at head 2; its cells are at layers 2, heads 1, 3",
    ("--queries", "0"): "--queries: 0 is not above 0",
    ("--setting", "prompts.shots=4"): "--setting: 'prompts.shots' is not swept in this spec",
    ("--setting", "interventions.difference.strength=9"): "is never 9; choose one of 0.5, 1.5",
    ("--setting", "strength"): "--setting: 'strength'",
    ("--out", "x.txt"): "--out: 'x.txt' is no name of a script",
    ("--out", "mine.py"): "--out: 'mine.py' is there already and was not emitted",
    ("--run", "."): "is not the folder of a run",
    ("--prompts.shot=4",): "did you mean",
    ("--interventions={}",): "interventions: there is none",
}


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_arguments_are_one_line_and_nothing_is_written(arguments, spec, capsys):
    Path("mine.py").write_text("print()\n")
    before = sorted(spec.parent.rglob("*"))
    capsys.readouterr()
    assert main(["emit", "spec.yaml", *arguments]) == 2
    assert WRONG[arguments] in one_error(capsys)
    assert sorted(spec.parent.rglob("*")) == before and Path("mine.py").read_text() == "print()\n"


def test_a_script_is_written_over_and_a_run_of_another_spec_is_refused(tmp_path, capsys):
    out = ["--intervention", "op-add", "--out", str(tmp_path / "again.py")]
    assert main(["emit", "spec.yaml", *out]) == main(["emit", "spec.yaml", *out]) == 0
    capsys.readouterr()
    assert main(["emit", "spec.yaml", *out, "--run", str(spec_run()), "--prompts.seed=3"]) == 2
    assert "holds a run of another spec" in one_error(capsys)


@pytest.mark.slow
def test_it_passes_ruff_at_any_width(tmp_path):
    ruff = shutil.which("ruff") or Path(sys.executable).with_name("ruff")
    if not Path(ruff).exists():
        pytest.skip("no ruff")
    for name, arguments in {"all": ["--control", "all"], "zero": ["--intervention", "op-zero"], "one": []}.items():
        script = tmp_path / f"{name}.py"
        assert main(["emit", "spec.yaml", *arguments, "--out", str(script)]) == 0
        for given in (["check"], ["format", "--check", "--line-length=88"], ["format", "--check", "--line-length=120"]):
            done = subprocess.run([ruff, *given, "--isolated", script], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr


BLOCKED = """
import importlib.abc, runpy, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "patchboard":
            raise ImportError(f"{name} is out of reach")

sys.meta_path.insert(0, Blocked())
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.slow
def test_the_default_spec_in_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    default = Path(__file__).parents[2] / "experiments/specs/patch_sweep.yaml"
    few = [f"--interventions.{name}.vector.prompts=12" for name in ("positive", "added", "negative", "erased")]
    given = [str(default), "--prompts.queries=6", "--layers=1:4", *few]
    assert main(["run", *given, "--quiet", "--wandb", "off"]) == 0
    (tmp_path / "empty").mkdir()
    assert main(["emit", *given, "--control", "random,other_task", "--out", "empty/script.py"]) == 0
    command = [sys.executable, "-I", "-c", BLOCKED, "script.py"]
    done = subprocess.run(command, cwd="empty", capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("largest difference from the run") and float(last.split(": ")[1].split(",")[0]) < WITHIN


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(set(SIZES) - {"llama", "gpt2", "qwen2"}))  # its tokenizer is its own
def test_every_family_by_its_own_module_paths(family, tmp_path, monkeypatch):
    monkeypatch.setattr("patchboard.execution.run._report", lambda folder: None)
    save(random_model(family), tmp_path / "model")
    known = [site for site in SITES if site != PATTERN and not ARCHITECTURES[family].lacks(site)]
    sites = {site: {"op": "patch", "vector": VECTOR, "site": site, "layers": [1, 3]} for site in known}
    tree = tree_of(tmp_path / "model") | {"interventions": sites, "controls": ["self"], "metrics": ["logprob"]}
    assert main(["run", write(tree, tmp_path / "s.yaml"), "--out", str(tmp_path / "r"), "--quiet", "--wandb=off"]) == 0
    script = tmp_path / "script.py"
    head = ["--head", "1"] if "head" in known else []
    assert main(["emit", str(tmp_path / "r"), "--layer", "all", *head, "--out", str(script)]) == 0
    rows = values_of(script)
    assert len(rows) == 3 * 2 * len(known)
    own, run = np.array([row[3:5] for row in rows]), np.array([row[5:7] for row in rows])
    # Mamba-2's scan rounds more: as in tests/parity
    np.testing.assert_allclose(own, run, rtol=0, atol=WITHIN if family != "mamba2" else 10 * WITHIN)


CUT = {"op": "knock_out", "edges": {"from": "query", "to": "last"}, "layers": 1}
SENT = {"op": "path", "source": "other_task", "sender": {"layers": 1}}
NOISY = {"edits": [{"op": "noise", "layers": 0}, {"op": "patch", "source": "clean", "layers": 2}]}


def test_what_a_script_cannot_hold_is_left_out_alone(llama_folder, tmp_path, monkeypatch, capsys):
    tree = {**tree_of(llama_folder), "controls": ["self"], "metrics": OF_THE_RUN}
    tree["interventions"] = {"cut": CUT, "noisy": NOISY, "sent": SENT, "zero": {"op": "zero"}}
    monkeypatch.chdir(tmp_path)
    spec = write(tree, tmp_path / "spec.yaml")
    assert main(["emit", spec, "--control", "all", "--out", "found.py"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:3] == [
        "left out: cut cuts edges of attention, which a script cannot",
        "left out: noisy draws noise, which a script cannot",
        "left out: sent follows a path, which a script cannot",
    ]
    text = (tmp_path / "found.py").read_text()
    assert "Left out: noisy draws noise" in text and "zero, on AND" in text and "knock_out" not in text
    for asked in (["--intervention", "cut"], ["--intervention", "zero,noisy"]):
        assert main(["emit", spec, *asked, "--out", "other.py"]) == 2
        name = asked[1].split(",")[-1]
        assert capsys.readouterr().err.startswith(f"error: --intervention: {name} ")
    write({**tree, "interventions": {"cut": CUT}}, tmp_path / "spec.yaml")
    assert main(["emit", spec, "--out", "other.py"]) == 2
    assert "cut cuts edges of attention, which a script cannot; emit others" in capsys.readouterr().err
    assert not (tmp_path / "other.py").exists()


def test_a_source_of_fewer_tokens_fills_as_many_as_are_edited(llama_folder, tmp_path, monkeypatch):
    """However many these are: the script has no number of its own."""
    source = {"name": "clean", "position": "query", "align": "all"}
    edit = {"op": "patch", "layers": 1, "position": "all", "source": source}
    tree = {**tree_of(llama_folder), "controls": [], "metrics": OF_THE_RUN, "interventions": {"p": edit}}
    monkeypatch.chdir(tmp_path)
    assert main(["emit", write(tree, tmp_path / "spec.yaml"), "--out", "found.py"]) == 0
    text = (tmp_path / "found.py").read_text()
    assert "at = (at + at[-1:] * wanted)[:wanted]" in text and "* 1000" not in text
