"""`import patchboard`: what a notebook calls is what the command line does, and its numbers can be made by hand."""

from __future__ import annotations

import ast
import asyncio
import doctest
import html
import importlib
import json
import re
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torch import Tensor

import patchboard as pb
from patchboard.commands.main import main
from patchboard.execution.results import bootstrap_of, write_results
from patchboard.measure.statistics import Bootstrap, drawn
from patchboard.spec import dump_yaml
from patchboard.store.folder import RunFolder
from patchboard.store.vectors import save_vectors
from tests.conftest import ROOT
from tests.contract.tiny import VECTOR, one_error, tiny_tree, write

pytestmark = pytest.mark.rasterised

TABLES = ("effects", "curves", "outcomes", "decodability", "prompts")
INTERVENTIONS = {
    "p": {"op": "patch", "vector": VECTOR, "layers": [1, 2]},
    "zeroed": {"op": "zero", "site": "mlp_out", "position": "query", "layers": 1},
    "erased": {"op": "ablate", "vector": {"subspace": "tasks", "rank": 1, "shots": 1, "prompts": 3}, "layers": 1},
}


@pytest.fixture(scope="module")
def tree(llama_folder) -> dict:
    return tiny_tree(llama_folder, interventions=INTERVENTIONS, metrics=["accuracy", "logprob"])


@pytest.fixture(scope="module")
def run(tree, tmp_path_factory) -> pb.Run:
    """Made in a thread of its own, beside an event loop that runs there: as in a notebook's kernel."""

    async def cell() -> pb.Run:
        return pb.run(pb.load(tree), out=tmp_path_factory.mktemp("door") / "run")

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(cell())).result()


@pytest.fixture(scope="module")
def other(run) -> pb.Run:
    """The same queries and cells, of which some have other outcomes."""
    folder = Path(shutil.copytree(run.path, run.path.with_name("other")))
    shift = pl.when(pl.col("intervention") == "p").then(pl.col("query") + pl.col("layer") ** 2).otherwise(0)
    run.outcomes.with_columns(pl.col("patched") + shift).write_parquet(folder / "outcomes.parquet")
    write_results(run.study, RunFolder(folder, run.study.digest))
    return pb.open(folder)


def told(capsys) -> str:
    """What was printed on standard output, without what stands around it."""
    return "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines()).strip("\n")


def test_importing_it_imports_nothing_else_and_changes_nothing():
    code = (
        "import logging, os, sys; before = set(sys.modules), dict(os.environ), list(logging.root.handlers)\n"
        "import patchboard; dir(patchboard)\n"
        "assert (dict(os.environ), list(logging.root.handlers)) == before[1:]\n"
        "print(*set(sys.modules) - before[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"patchboard"}


def test_every_public_name_is_there_and_is_no_room():
    assert set(pb.__all__) <= set(dir(pb)) and len(set(pb.__all__)) == len(pb.__all__)
    for name in pb.__all__:
        assert getattr(pb, name) is not None
        # importing a room of that name would put the room in the function's place
        assert not any((ROOT / "interventions" / file).exists() for file in (name, f"{name}.py")), name
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        pb.lod  # noqa: B018
    tree = ast.parse((ROOT / "interventions" / "__init__.py").read_text())
    seen_by_editors = {
        (node.module, alias.name)
        for block in tree.body if isinstance(block, ast.If)
        for node in block.body if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }  # fmt: skip
    assert seen_by_editors == {(home, name) for name, home in pb._HOME_OF.items()}
    assert {*pb._HOME_OF, "__version__"} == set(pb.__all__)


@pytest.mark.slow
def test_a_run_is_the_command_lines(tree, run, capsys):
    out = run.path.with_name("by-command")
    (spec := run.path.with_name("spec.yaml")).write_text(dump_yaml(tree))
    assert main(["run", str(spec), "--out", str(out), "--quiet", "--wandb", "off"]) == 0
    same = [f"{name}.parquet" for name in TABLES] + ["spec.yaml", "plan.json", "summary.json", "report.html"]
    assert {file.name for file in run.path.iterdir()} == {*same, "manifest.json", "vectors.safetensors", "figures"}
    for name in [*same[:-1], *(f"figures/{file.name}" for file in (run.path / "figures").iterdir())]:
        assert (run.path / name).read_bytes() == (out / name).read_bytes(), name
    ours, theirs = load_file(run.path / "vectors.safetensors"), load_file(out / "vectors.safetensors")
    assert ours.keys() == theirs.keys() and all(ours[key].equal(theirs[key]) for key in ours)
    by_the_hour = ("seconds", "processor_seconds", "budgets", "models")  # times, and what memory is free
    first, second = (dict(pb.open(path).manifest) for path in (run.path, out))
    assert first.keys() == second.keys() and all(first[k] == second[k] for k in first if k not in by_the_hour)
    assert not capsys.readouterr().out


def test_it_goes_on_where_it_is_and_keeps_its_place_in_the_working_folder(tree, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = pb.load(tree)
    shutil.copytree(run.path, tmp_path / "runs" / f"tiny-{study.digest[:8]}")
    before = (run.path / "manifest.json").read_bytes()
    again = pb.run(study)
    assert again.path == Path("runs") / f"tiny-{study.digest[:8]}"
    assert (again.path / "manifest.json").read_bytes() == before, "a finished run is found, not computed"


def test_the_plan_is_that_of_the_command_line(tree, run, tmp_path, capsys):
    plan = pb.load(tree).plan()
    assert plan.as_dict() == json.loads((run.path / "plan.json").read_text())
    (tmp_path / "spec.yaml").write_text(dump_yaml(tree))
    assert main(["plan", str(tmp_path / "spec.yaml"), "--json"]) == 0
    assert plan.as_dict() == json.loads(capsys.readouterr().out)
    assert main(["plan", str(tmp_path / "spec.yaml")]) == 0
    assert told(capsys) == repr(plan)
    assert main(["plan", str(tmp_path / "spec.yaml"), "--show-tokens"]) == 0
    assert capsys.readouterr().out == plan.tokens() + "\n"
    plan.as_dict()["models"].clear()
    assert plan.as_dict()["models"], "what it gives is a copy"


def test_tables_and_findings_are_the_folders(run, capsys):
    for name in TABLES:
        assert getattr(run, name).equals(pl.read_parquet(run.path / f"{name}.parquet"))
        assert getattr(run, name) is getattr(run, name), "read once"
    assert len(run.effects.to_pandas()) == len(run.effects)
    assert run.summary == json.loads((run.path / "summary.json").read_text())
    assert main(["run", str(run.path / "spec.yaml"), "--out", str(run.path), "--wandb", "off"]) == 0
    assert told(capsys) == repr(run)
    page = run._repr_html_()
    assert all(f">{name}</td>" in page for name in INTERVENTIONS) and "http" not in page


def test_html_is_escaped():
    from patchboard.api.display import html_table, html_text

    assert "<b>" not in html_table(("<b>",), [("<b>&",)], "<b>") + html_text(["<b>"])
    assert "&lt;b&gt;&amp;" in html_table(("",), [("<b>&",)])


def test_vectors_are_the_files(run):
    stored = load_file(run.path / "vectors.safetensors")
    for (intervention, layer, task), vector in run.vectors.items():
        key = f"{intervention}/{task}/{layer}"
        assert (vector if isinstance(vector, Tensor) else vector.right).equal(stored[key])
        assert vector.stamp["key"] == key and vector.stamp["layer"] == layer
        assert vector.stamp["digest"] == run.study.digest == run.manifest["digest"]
    assert len(run.vectors) == len([key for key in stored if not key.endswith(("/left", "/center"))])
    assert run.vectors["erased", 1, "tasks"].left.equal(stored["erased/tasks/1/left"])
    assert set(run.vectors["p"]) == {key for key in run.vectors if key[0] == "p"}
    assert ("p", 2, "XOR") in run.vectors and ("p", 2) not in run.vectors and run.vectors.get(("p", 3)) is None


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("q", "vectors['q']: there is no such intervention; choose one of erased, p"),
        (("p", 0), "vectors['p', 0]: there is no such layer; choose one of 1, 2"),
        (("p", 2, "XR"), "vectors['p', 2, 'XR']: there is no such task; did you mean 'XOR'?"),
        (("p", 2, "XOR", 1), "vectors['p', 2, 'XOR', 1]: has more parts than a key; give intervention, layer and task"),
    ],
)
def test_a_key_that_is_not_there_is_named(run, key, line):
    with pytest.raises(KeyError) as caught:
        run.vectors[key]
    assert isinstance(caught.value, pb.UnknownKeyError) and str(caught.value) == line


def test_vectors_of_several_models_and_of_heads(tmp_path):
    from patchboard.api.vectors import Vectors

    states = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    tensors = [Tensor(row) for row in states]
    for number, revision in enumerate(("step1", "step2")):
        operands = {"p/XOR/2": tensors[number], "one/XOR/2.3": tensors[number + 2]}
        stamp = {"digest": "d", "model": "m", "revision": revision, "places": {}}
        save_vectors(tmp_path / f"m{number}-vectors.safetensors", operands, stamp)
    vectors = Vectors(tmp_path)
    assert vectors["p", 2, "XOR", "m@step2"].equal(tensors[1]) and len(vectors) == 4
    assert vectors["one", (2, 3), "XOR", "m@step1"].equal(tensors[2])
    with pytest.raises(pb.RunFolderError, match="holds no vectors"):
        Vectors(tmp_path / "none")


def test_examples_are_prompts_with_their_outcomes(run):
    """Against the tables: of `zeroed` the query's tokens are edited, of `p` the last one."""
    found = run.examples("zeroed", task="XOR", metric="logprob", n=100)
    outcomes = run.outcomes.filter(
        pl.col("intervention") == "zeroed", pl.col("control") == "", pl.col("task") == "XOR",
        pl.col("metric") == "logprob",
    )  # fmt: skip
    prompts = run.prompts.filter(pl.col("role") == "evaluate", pl.col("task") == "XOR")
    assert len(found) == len(outcomes) == 3
    assert found["effect"].abs().is_sorted(descending=True) and found["effect"].abs().max() > 0
    for row in found.iter_rows(named=True):
        (outcome,) = outcomes.filter(pl.col("query") == row["query"]).iter_rows(named=True)
        (prompt,) = prompts.filter(pl.col("query") == row["query"]).iter_rows(named=True)
        assert (row["clean"], row["patched"]) == (outcome["clean"], outcome["patched"])
        assert row["effect"] == outcome["patched"] - outcome["clean"]
        assert (row["text"], row["answer"]) == (prompt["text"], prompt["answer"])
        query = prompt["text"].split("\n")[-1].split("->")[0].strip()
        assert "".join(row["edited"]) == query.replace(" ", "")
        assert row["edited_at"][-1] == prompt["position"] - 1 < len(prompt["token_ids"]) - 1
    last = run.examples("p", layer=2, n=1).row(0, named=True)
    assert last["edited"] == ["->"] and last["layers"] == "2" and last["metric"] == "accuracy"
    mine = {"intervention": "p", "n": 4, "order": "random"}
    assert run.examples(**mine, seed=1).equals(run.examples(**mine, seed=1))
    assert not run.examples(**mine, seed=1).equals(run.examples(**mine, seed=2))
    assert set(run.examples("p", control="random", n=100)["vector_task"]) == {
        f"{t}~random0" for t in ("AND", "OR", "XOR")
    }


@pytest.mark.parametrize(
    ("wish", "line"),
    [
        (
            {"intervention": "q"},
            "examples(intervention): the run has no intervention 'q'; choose one of erased, p, zeroed",
        ),
        ({"intervention": "p", "layer": 3}, "examples(layer): the run has no layer 3 there; choose one of 1, 2"),
        ({"task": "XR"}, "examples(task): the run has no task 'XR' there; did you mean 'XOR'?"),
        ({"metric": 3}, "examples(metric): the run has no metric 3 there; choose one of accuracy, logprob"),
        ({"order": "efect"}, "examples(order): unknown order 'efect'; did you mean 'effect'?"),
        ({"n": 0}, "examples(n): found 0, expected a whole number ≥ 1; give how many"),
    ],
)
def test_a_wish_for_examples_that_the_run_does_not_have(run, wish, line):
    with pytest.raises(pb.SpecError) as caught:
        run.examples(**wish)
    assert str(caught.value) == line


def test_prompts_that_have_changed_are_no_examples(run, tmp_path):
    """The stored tokens are what was run; the plan is made again."""
    folder = Path(shutil.copytree(run.path, tmp_path / "run"))
    changed = run.prompts.with_columns(pl.col("token_ids").list.reverse())
    changed.write_parquet(folder / "prompts.parquet")
    with pytest.raises(pb.RunFolderError, match="its prompts are no longer those"):
        pb.open(folder).examples("p")


def test_plots_are_the_reports_figures(run):
    for name, arguments in {
        "effect-accuracy": {"kind": "effect"},
        "effect-logprob": {"kind": "effect", "metric": "logprob"},
        "tasks": {"kind": "effect", "by": "task"},
        "cd": {"kind": "cd"},
    }.items():
        figure = run.plot(**arguments)
        assert isinstance(figure, Figure)
        assert figure._repr_png_() == (run.path / "figures" / f"{name}.png").read_bytes(), name


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("efect",), "plot: unknown kind 'efect'; did you mean 'effect'?"),
        (("effect", "tsk"), "plot: 'effect' is not drawn by 'tsk'; did you mean 'task'?"),
        (("cd", "task"), "plot: 'cd' is not drawn by 'task'; leave it out"),
        (("conversion",), "plot: the run has nothing to draw as 'conversion'; choose another kind"),
    ],
)
def test_a_figure_that_there_is_not(run, arguments, line):
    with pytest.raises(pb.SpecError) as caught:
        run.plot(*arguments)
    assert str(caught.value) == line
    with pytest.raises(pb.SpecError, match="the run has no metric 'kl'; choose one of accuracy, logprob"):
        run.plot(metric="kl")
    with pytest.raises(pb.SpecError, match="there is no figure 2 of 'effect', expected 1 to 1"):
        run.plot(number=2)


def test_the_explorer_is_the_pages(run):
    """The same numbers as on the page, and all of it in one attribute of a frame."""
    explorer = run.explore()
    data = re.compile(r'<script type="text/plain" class="run">.*?</script>', re.DOTALL)
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert data.findall(explorer.html) == data.findall(page) != []
    shown = explorer._repr_html_()
    assert shown.isascii() and html.unescape(re.findall(r'srcdoc="([^"]*)"', shown)[0]) == explorer.html
    assert 'sandbox="allow-scripts"' in shown and shown != explorer._repr_html_()  # a name of its own each time
    assert "Content-Security-Policy" in explorer.html and "allow-same-origin" not in shown
    assert data.findall(run.explore(run).html)[0] == data.findall(page)[0]
    assert data.findall(run.explore(run.path).html) == data.findall(run.explore(run).html)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"task": "XR"}, "explore: the run has no task 'XR'; did you mean 'XOR'?"),
        ({"metric": "kl"}, "explore: the run has no metric 'kl'; choose one of accuracy, logprob"),
        ({"intervention": "zero"}, "explore: the run has no intervention 'zero'; did you mean 'zeroed'?"),
        ({"layer": 7}, "explore: the run has no layer 7; choose one of 1, 2"),
    ],
)
def test_the_explorer_begins_where_the_run_has_something(run, arguments, line):
    with pytest.raises(pb.SpecError) as caught:
        run.explore(**arguments)
    assert str(caught.value) == line


def literal_interval(a: np.ndarray, b: np.ndarray, strata: tuple[str, str], bootstrap: Bootstrap) -> list[float]:
    """Resample by resample: the mean of b's drawn queries minus that of a's."""
    counts = [np.concatenate([c for _, c in drawn(name, 3, bootstrap)]) for name in strata]
    means = []
    for of_a, of_b in zip(*counts, strict=True):
        means.append(np.repeat(b, of_b).mean() - np.repeat(a, of_a).mean())
    return np.quantile(means, [0.025, 0.975]).tolist()


@pytest.mark.parametrize("paired", [True, False])
def test_a_comparison_by_hand(run, other, paired, tmp_path):
    if not paired:  # other queries: prompts of another text
        folder = Path(shutil.copytree(other.path, tmp_path / "other"))
        other.prompts.with_columns(pl.col("text") + "?").write_parquet(folder / "prompts.parquet")
        other = pb.open(folder)
    table = pb.compare(run, other)
    assert len(table) == len(run.effects) == len(other.effects) and set(table["paired"]) == {paired}
    settings = bootstrap_of(run.study)
    moved = 0
    for row in table.filter(pl.col("metric") == "logprob").iter_rows(named=True):
        names = ("task", "intervention", "control", "layer", "metric")
        here = [pl.col(name) == row[name] for name in names]
        a, b = (
            (part["patched"] - part["clean"]).to_numpy()
            for part in (each.outcomes.filter(*here).sort("query") for each in (run, other))
        )
        low, high = literal_interval(
            a, b, (row["task"], row["task"] if paired else f"{row['task']} of another run"), settings
        )
        assert row["difference"] == pytest.approx(b.mean() - a.mean(), abs=1e-12)
        assert (row["difference_low"], row["difference_high"]) == pytest.approx((low, high), abs=1e-9)
        for side, each in (("a", run), ("b", other)):
            (effect,) = each.effects.filter(*here).iter_rows(named=True)
            assert [row[f"{name}_{side}"] for name in ("effect", "ci_low", "ci_high", "n")] == [
                effect[name] for name in ("effect", "ci_low", "ci_high", "n")
            ]
        moved += row["intervention"] == "p" and not row["control"] and row["difference"] != 0
    assert moved == 6, "of three tasks, at two layers"
    text = repr(table)
    assert "b − a" in text and "zeroed" in text and "http" not in table._repr_html_()
    assert type(table.filter(pl.col("layer") == 1).select("task")) is pl.DataFrame


def test_runs_that_cannot_be_compared(run, tmp_path):
    folder = Path(shutil.copytree(run.path, tmp_path / "seeded"))
    for name in ("effects", "outcomes"):
        getattr(run, name).with_columns(seed=pl.lit(7, pl.Int64())).write_parquet(folder / f"{name}.parquet")
    seeded = pb.open(folder)
    with pytest.raises(pb.SpecError) as caught:
        pb.compare(run, seeded)
    assert "run and seeded have no cell in common (seed: 0 against 7); compare runs" in str(caught.value)
    table = pb.compare(run, seeded, run, ignoring=["seed"])
    assert (
        set(table["run_b"]) == {"seeded", "run"}
        and table["difference"].abs().max() == 0
        and "seed" not in table.columns
    )
    with pytest.raises(pb.SpecError, match="several cells that are one without .*layer"):
        pb.compare(run, seeded, ignoring=["seed", "layer", "layers"])
    with pytest.raises(pb.SpecError, match="found 1 run, expected at least 2"):
        pb.compare(run)
    with pytest.raises(pb.SpecError, match=r"no run has a column 'sed'; did you mean 'seed'"):
        pb.compare(run, seeded, ignoring=["sed"])


@pytest.mark.parametrize(
    ("overrides", "flags"),
    [
        ({"prompts.shotz": 4}, ["--prompts.shotz=4"]),
        ({"prompts.shots": "four"}, ["--prompts.shots=four"]),
        ({"interventions.q.op": "zero"}, ["--interventions.q.op=zero"]),
        ({"metrics.7": "kl"}, ["--metrics.7=kl"]),
    ],
)
def test_overrides_are_refused_as_on_the_command_line(tree, tmp_path, capsys, overrides, flags):
    with pytest.raises(pb.SpecError) as caught:
        pb.load(tree, overrides)
    assert main(["plan", write(tree, tmp_path / "spec.yaml"), *flags]) == 2
    assert one_error(capsys) == f"error: {caught.value}"


def test_what_cannot_be_run_or_opened(tree, tmp_path):
    for arguments, line in (
        ({"engine": "packed"}, "engine: there is no engine 'packed'; use wavefront"),
        ({"device": "gpu"}, "device: found 'gpu', expected one of auto, cpu, cuda"),
        ({"devices": "2"}, "devices: found '2', expected a whole number ≥ 1; give how many"),
        ({"devices": 2, "remote": "http://127.0.0.1:9"}, "devices: is of this machine, and the run is on a host"),
        ({"patience": 0}, "--patience: 0 is not above 0; give more"),
        ({"remote": "http://127.0.0.1:9", "device": "cpu"}, "--device: has no meaning with --remote"),
    ):
        with pytest.raises(pb.PatchboardError) as caught:
            pb.run(tree, out=tmp_path / "run", **arguments)
        assert line in str(caught.value)
    with pytest.raises(pb.SpecError, match="found the whole number 3, expected a path, a text or a dict"):
        pb.load(3)  # type: ignore[arg-type]
    with pytest.raises(pb.SpecError, match=r"spec: holds a W&B sweep, expected a run's spec"):
        pb.load({"program": "x.py", "method": "grid", "parameters": {}})
    with pytest.raises(pb.RunFolderError, match="is not the folder of a finished run; run its spec first"):
        pb.open(tmp_path)
    with pytest.raises(pb.SpecError, match="--jobs: found 0, expected a whole number ≥ 1"):
        pb.sweep(ROOT / "sweeps" / "strength_shots.yaml", jobs=0)
    assert not (tmp_path / "run").exists()


def test_consent_to_a_models_code_is_of_one_call_and_one_thread():
    from patchboard.engine.trust import code_is_trusted, trusting

    with trusting(True), ThreadPoolExecutor(1) as pool:
        assert code_is_trusted() and not pool.submit(code_is_trusted).result()
        with trusting(False):
            assert code_is_trusted(), "a call within does not take back what was given"
    assert not code_is_trusted()


def test_transformers_is_as_talkative_afterwards_as_before():
    from transformers.utils import logging

    from patchboard.api.quiet import quiet_transformers

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity_info()
        logging.enable_progress_bar()
        with quiet_transformers():
            assert logging.get_verbosity() == logging.ERROR and not logging.is_progress_bar_enabled()
        assert logging.get_verbosity() == logging.INFO and logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity(level)
        (logging.enable_progress_bar if bars else logging.disable_progress_bar)()


def test_progress_in_a_notebook_is_one_output_that_ends_empty(monkeypatch):
    from types import ModuleType, SimpleNamespace

    from patchboard.report import progress

    shown: list[str] = []
    display = ModuleType("IPython.display")
    display.HTML = lambda text: text  # type: ignore[attr-defined]
    display.display = lambda text, display_id: SimpleNamespace(update=shown.append)  # type: ignore[attr-defined]
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(has_trait=lambda name: name == "kernel"))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert progress.in_notebook()
    with progress.progress(shown=True) as tick:
        tick("packs", 1, 2)
        tick("<b>", 2, 2)
    assert 'packs <progress value="1" max="2">' in shown[-2] and "&lt;b&gt;" in shown[-2] and shown[-1] == ""


DOCUMENTED = [name for name in pb.__all__ if getattr(getattr(pb, name), "__module__", "").startswith("patchboard.api")]


@pytest.mark.parametrize("module", ["patchboard", *dict.fromkeys(pb._HOME_OF[name] for name in DOCUMENTED)])
def test_examples_in_docstrings(module, tree, run):
    names = {"pb": pb, "spec": tree, "study": pb.load(tree), "run": run, "folder": run.path}
    found = doctest.testmod(importlib.import_module(module), extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0 and found.failed == 0


def test_the_page_of_the_door_is_current():
    script = runpy.run_path(str(ROOT / "docs" / "api_page.py"))
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == script["page"](), "run `python docs/api_page.py`"


def test_every_public_name_has_an_example():
    for name in DOCUMENTED:
        assert ">>>" in (getattr(pb, name).__doc__ or ""), name
