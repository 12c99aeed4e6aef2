"""Runs with a screen: what is estimated, what is then run, and that nothing else is another than without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import patchboard as pb
from patchboard.commands.main import main
from patchboard.engine import memory
from patchboard.engine.local import LocalEngine
from patchboard.execution import screen as stage
from patchboard.execution.run import Options, run_study
from patchboard.report.heads import top_heads
from patchboard.report.run_files import read_run
from patchboard.spec import study_of
from patchboard.track.tables import tables
from tests.contract.cases import case_tree, write_cases
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree, write

pytestmark = pytest.mark.drawn

SECTIONS = {
    "swept": {"op": "patch", "source": "flip", "position": {"sweep": ["S2", "IO", "last"]}, "layers": "all"},
    "heads": {"op": "resample", "source": "third", "site": "head", "position": "S2", "layers": "all"},
    "cut": {"op": "knock_out", "edges": {"from": "S2", "to": "last"}, "layers": "all"},
    "pair": {"edits": [{"op": "patch", "source": "flip", "layers": 1},
                       {"op": "patch", "source": "clean", "layers": 3}]},
}  # fmt: skip
SCREENED = 3 * 4 + 4 * 4
"""Cells of the first two; the others run as ever."""
LITTLE = 8 << 20
"""Free bytes, for small packs."""
TABLES = ("outcomes.parquet", "effects.parquet", "curves.parquet")


def tree_of(folder: Path, cases: Path, **changes: Any) -> dict[str, Any]:
    metrics = ["accuracy", "logit_difference", "logprob"]
    return tiny_tree(
        folder, **case_tree(cases, interventions=SECTIONS, metrics=metrics, outcomes={"top_tokens": 3}, **changes)
    )


@pytest.fixture(scope="module")
def whole(llama_folder, cases, tmp_path_factory) -> Path:
    """The run without a screen."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return run_study(study_of(tree_of(llama_folder, cases)), Options(out))


@pytest.fixture(scope="module")
def screened(llama_folder, cases, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("screened") / "run"
    return run_study(study_of(tree_of(llama_folder, cases, screen={"keep": 6, "sample": 5})), Options(out))


def test_a_screen_that_keeps_all_changes_no_table(llama_folder, cases, whole, tmp_path):
    study = study_of(tree_of(llama_folder, cases, screen={"keep": SCREENED}))
    out = run_study(study, Options(tmp_path / "run"))
    for name in TABLES:
        assert_frame_equal(pl.read_parquet(out / name), pl.read_parquet(whole / name))
    assert set(pl.read_parquet(out / "screen.parquet")["chosen"]) == {"kept"}
    missed = json.loads((out / "summary.json").read_text())["screen"]["points"][0]["missed"]
    assert missed is None, "nothing was left to miss"
    assert "screen" not in json.loads((whole / "summary.json").read_text()) and pb.open(whole).screen.is_empty()


def test_tokens_are_kept_of_the_cells_that_run(screened, whole):
    """With the plan counting as many cells as are left, whichever these are."""
    some, everything = (pb.open(folder).top_tokens for folder in (screened, whole))
    names = [name for name in some.columns if name not in ("logprobs", "answer_logprob")]
    keys = names[: names.index("tokens")]
    both = some.join(everything, on=keys, how="left", nulls_equal=True, suffix="_whole", maintain_order="left")
    assert both["token_ids"].to_list() == both["token_ids_whole"].to_list()
    cells = 11 + 4 + 1  # chosen ones, and those that are not screened
    assert len(some) == 6 + 6 * cells and len(everything) == 6 + 6 * (SCREENED + 4 + 1)
    plan = json.loads((screened / "plan.json").read_text())["models"][0]
    assert plan["cost"]["top_tokens"] == len(some)


def test_what_runs_follows_from_the_table_of_estimates(screened, whole):
    table = pl.read_parquet(screened / "screen.parquet")
    assert len(table) == SCREENED and table["chosen"].value_counts().sort("chosen")["count"].to_list() == [6, 17, 5]
    largest = table.sort(pl.col("choosing").abs(), descending=True, maintain_order=True)
    assert largest["chosen"].to_list()[:6] == ["kept"] * 6
    assert largest["rank"].to_list() == list(range(1, SCREENED + 1))
    keys = [name for name in table.columns if name in pl.read_parquet_schema(whole / "effects.parquet")]
    keys = [name for name in keys if name not in ("ci_low", "ci_high", "n", "metric")]
    outcomes = pl.read_parquet(screened / "outcomes.parquet")
    ran = outcomes.filter(pl.col("intervention").is_in(["swept", "heads"]), control="")
    chosen = table.filter(pl.col("chosen") != "left out")
    assert len(ran.select(keys).unique()) == 11
    assert len(ran.join(chosen, on=keys, how="anti", nulls_equal=True)) == 0
    # each cell's values are those of the run of all cells, controls stand beside them, the rest runs as ever
    everything = pl.read_parquet(whole / "outcomes.parquet")
    same = [name for name in everything.columns if name not in ("clean", "patched")]
    both = outcomes.join(everything, on=same, how="left", nulls_equal=True, suffix="_whole")
    assert np.abs(both["patched"].to_numpy() - both["patched_whole"].to_numpy()).max() < 1e-4
    places = ["intervention", "layers", "head", "position"]
    cells = {control: outcomes.filter(control=control).select(places).unique() for control in ("", "self")}
    beside = cells[""].filter(pl.col("intervention") != "cut")  # of edges no state can be put back
    assert_frame_equal(beside, cells["self"], check_row_order=False)
    for name in ("cut", "pair"):
        rows = [table.filter(intervention=name).select(same) for table in (outcomes, everything)]
        assert_frame_equal(*rows)


def test_estimates_are_means_over_queries_that_tell_the_effects(screened, whole):
    """The last block's states before the answer are all that is read: there the estimate ranks as the effect does."""
    points = json.loads((screened / "summary.json").read_text())["screen"]["points"]
    assert len(points) == 1 and points[0]["spearman_of_all"] > 0.5
    point = points[0]
    assert (point["cells"], point["kept"], point["sampled"], point["missed"]["others"]) == (SCREENED, 6, 5, 22)
    assert {name: each["cells"] for name, each in point["interventions"].items()} == {"swept": 12, "heads": 16}
    # how many really are larger than the smallest kept one lies in the interval told
    table, effects = (pl.read_parquet(screened / "screen.parquet"), pl.read_parquet(whole / "effects.parquet"))
    keys = [n for n in table.columns if n in effects.columns and n not in ("ci_low", "ci_high", "n")]
    exact = table.join(effects.filter(control=""), on=keys, how="left", nulls_equal=True)
    least = exact.filter(chosen="kept")["effect"].abs().min()
    above = len(exact.filter(pl.col("chosen") != "kept", pl.col("effect").abs() > least))
    assert point["missed"]["smallest_kept"] == pytest.approx(least, abs=1e-4)
    assert point["missed"]["low"] <= above <= point["missed"]["high"]


class Stopped(KeyboardInterrupt):
    pass


def stopping(monkeypatch: Any, owner: Any, name: str, after: int) -> dict[str, int]:
    """Stops the run at a call of the function, and counts the calls."""
    original, calls = getattr(owner, name), {"made": 0}

    def watched(*arguments: Any) -> Any:
        if calls["made"] == after:
            raise Stopped
        calls["made"] += 1
        return original(*arguments)

    monkeypatch.setattr(owner, name, watched)
    return calls


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        pytest.param(stage, "attributions", 1, marks=pytest.mark.slow),
        (stage, "attributions", 2),
        pytest.param(LocalEngine, "score_pack", 5, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_is_an_undisturbed_one(llama_folder, cases, screened, tmp_path, monkeypatch, owner, name, after):
    """Stopped among the estimates, or among the packs: what is there is not computed again, all tables are equal."""
    study = study_of(tree_of(llama_folder, cases, screen={"keep": 6, "sample": 5}))
    monkeypatch.setattr(memory, "free_bytes", lambda device: LITTLE)
    monkeypatch.setattr(stage, "pass_prompts", lambda *_: 2)
    with monkeypatch.context() as patch:
        stopping(patch, owner, name, after)
        with pytest.raises(Stopped):
            run_study(study, Options(tmp_path / "run"))
    calls = stopping(monkeypatch, stage, "attributions", 100)
    packs = stopping(monkeypatch, LocalEngine, "score_pack", 100)
    run_study(study, Options(tmp_path / "run"))
    assert calls["made"] == (3 - after if name == "attributions" else 0), "three passes of two prompts"
    resumed, packs["made"] = packs["made"], 0
    undisturbed = run_study(study, Options(tmp_path / "again"))
    assert packs["made"] - resumed == (3 if name == "score_pack" else 0), "two are the sample, made by each process"
    for table in (*TABLES, "screen.parquet"):
        assert_frame_equal(pl.read_parquet(tmp_path / "run" / table), pl.read_parquet(undisturbed / table))
    one, other = (pl.read_parquet(folder / "screen.parquet") for folder in (undisturbed, screened))
    assert_frame_equal(one, other, abs_tol=1e-5), "of whatever size the passes are"


def test_parts_of_another_choice_are_not_taken(llama_folder, cases, tmp_path, monkeypatch):
    """The copies of what is left are numbered anew, so a pack's name alone would not tell what it holds."""
    tree = tree_of(llama_folder, cases, screen={"keep": 6, "sample": 0})
    study = study_of({**tree, "interventions": {"heads": SECTIONS["heads"]}})
    monkeypatch.setattr(memory, "free_bytes", lambda device: LITTLE)
    with monkeypatch.context() as patch:
        stopping(patch, LocalEngine, "score_pack", 5)
        with pytest.raises(Stopped):
            run_study(study, Options(tmp_path / "run"))
    first = pl.read_parquet(tmp_path / "run" / "screen.parquet")
    for file in (tmp_path / "run" / "parts").glob("screen*"):
        file.unlink()
    original = stage.attributions
    monkeypatch.setattr(stage, "attributions", lambda *arguments: 1 / (1e-3 + abs(original(*arguments))))
    run_study(study, Options(tmp_path / "run"))
    run_study(study, Options(tmp_path / "again"))
    assert pl.read_parquet(tmp_path / "run" / "screen.parquet")["chosen"].to_list() != first["chosen"].to_list()
    assert_frame_equal(*(pl.read_parquet(tmp_path / name / "effects.parquet") for name in ("run", "again")))


@pytest.mark.slow
def test_passes_that_do_not_fit_are_halved(llama_folder, cases, screened, tmp_path, monkeypatch):
    original, sizes = stage.attributions, []

    def tight(engine, group, cells, prompts, *rest):
        if len(prompts) > 2:
            raise MemoryError("out of memory")
        sizes.append(len(prompts))
        return original(engine, group, cells, prompts, *rest)

    monkeypatch.setattr(stage, "attributions", tight)
    study = study_of(tree_of(llama_folder, cases, screen={"keep": 6, "sample": 5}))
    out = run_study(study, Options(tmp_path / "run"))
    assert sizes == [1, 2, 1, 2]
    tables = [pl.read_parquet(folder / "screen.parquet") for folder in (out, screened)]
    assert_frame_equal(*tables, abs_tol=1e-5)
    monkeypatch.setattr(stage, "attributions", lambda *_: (_ for _ in ()).throw(MemoryError("out of memory")))
    with pytest.raises(pb.PatchboardError, match="one prompt of .* do not fit in the memory of cpu"):
        run_study(study, Options(tmp_path / "again"))


def test_places_that_did_not_run_are_blank(screened):
    """Heads of one layer each are still a map of heads, not a line, and the map has every place."""
    found = read_run(screened)
    assert len(found.places) > len(found.curves) and found.places["n"].min() == 0
    figure = pb.open(screened).plot(by="head", metric="logit_difference")
    panel = figure.axes[0].images[0].get_array()
    assert panel.shape == (4, 4) and (~panel.mask).sum() == len(own(found.curves, "heads"))
    figure = pb.open(screened).plot(by="position", metric="logit_difference")
    panel = figure.axes[0].images[0].get_array()
    assert panel.shape == (3, 4) and (~panel.mask).sum() == len(own(found.curves, "swept"))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["last", "IO", "S2"], "from below"
    figure = pb.open(screened).plot("screen")
    drawn = sum(len(line.get_xdata()) for axis in figure.axes for line in axis.lines if line.get_linestyle() == "None")
    assert drawn == 11, "each cell that ran is a point"
    one = found.curves.filter(pl.col("intervention") == "heads").head(1)["head"].item()
    alone = replace(found, curves=found.curves.filter((pl.col("head") == one) | (pl.col("head") < 0)))
    (heads,) = top_heads(alone)
    assert heads["of"] == len(own(alone.curves, "heads")) > 0
    assert_frame_equal(tables(found)["screen"], pb.open(screened).screen.sort("rank"), check_exact=True)
    page = (screened / "report.html").read_text()
    assert "Screen by attribution: of 28 cells 11 were run, 6 of the largest estimates and 5 random others." in page
    assert (screened / "figures" / "screen.png").is_file()


def own(curves: pl.DataFrame, name: str) -> pl.DataFrame:
    return curves.filter(intervention=name, control="", metric="logit_difference")


def test_the_plan_says_what_is_estimated_and_run(llama_folder, cases, tmp_path, capsys):
    cost = {
        name: json.loads(planned(tree_of(llama_folder, cases, **changes), tmp_path, capsys, "--json"))["models"][0][
            "cost"
        ]
        for name, changes in {"whole": {}, "some": {"screen": {"keep": 6, "sample": 5}}}.items()
    }
    some, whole = cost["some"], cost["whole"]
    assert (some["screened"], some["screen_passes"]) == (SCREENED, 1) and "screened" not in whole
    assert whole["cells"] - some["cells"] == 2 * (SCREENED - 11), "with their controls"
    assert some["forwards"] == some["packs"] + 1 and some["token_layers"] < whole["token_layers"]
    table = planned(tree_of(llama_folder, cases, screen={"keep": 6}), tmp_path, capsys)
    assert f"cells estimated by the screen {SCREENED}" in " ".join(table.split())
    assert "of what is run exactly, as if the cells of most work were kept" in table


def planned(tree: dict[str, Any], tmp_path: Path, capsys: Any, *flags: str) -> str:
    assert main(["plan", write(tree, tmp_path / "spec.yaml"), *flags]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"metrics": ["accuracy", "kl"], "screen": {}},
            "screen: goes by the gradient of a metric, and none of accuracy, kl has one; add logit_difference, logprob",
        ),
        (
            {"interventions": {"p": {"op": "zero", "layers": 1}}, "screen": {}},
            "screen: finds no intervention of one edit that puts in a state of another prompt; add source:",
        ),
        (
            {"screen": {"keep": {"sweep": [1, 2]}}},
            "screen.keep: cannot be swept: it is the whole run's; run a spec for",
        ),
        ({"screen": {"keep": 0}}, "screen.keep: found 0"),
        ({"screen": {"method": "activation"}}, "screen.method: found the text 'activation', expected"),
    ],
)
def test_what_cannot_be_screened_is_one_line(llama_folder, cases, tmp_path, capsys, changes, says):
    tree = tree_of(llama_folder, cases) | changes
    assert run(tree, tmp_path / "run") == 2
    assert one_error(capsys).startswith(f"error: {says}")
    assert not (tmp_path / "run").exists()


def test_between_prompts_of_unequal_length_there_are_no_points(llama_folder, tmp_path, capsys):
    cases = write_cases(tmp_path / "cases.jsonl", longer=True)
    section = {"p": {"op": "patch", "source": {"name": "flip", "align": "last"}, "layers": 1, "position": "S1"}}
    tree = tiny_tree(llama_folder, **case_tree(cases, interventions=section))
    assert run({**tree, "screen": {"method": "integrated_gradients"}}, tmp_path / "run") == 2
    error = one_error(capsys)
    assert error.startswith("error: screen.method: integrated_gradients goes from each prompt's embeddings to those of")
    assert error.endswith("; write method: attribution") and not (tmp_path / "run").exists()
    assert run({**tree, "screen": {}}, tmp_path / "run") == 0


def test_integrated_gradients_run(llama_folder, cases, screened, tmp_path):
    study = study_of(tree_of(llama_folder, cases, screen={"keep": 6, "sample": 5, "method": "integrated_gradients"}))
    out = run_study(study, Options(tmp_path / "run"))
    one, other = (pl.read_parquet(folder / "screen.parquet")["estimate"].to_numpy() for folder in (out, screened))
    assert np.isfinite(one).all() and np.abs(one - other).max() > 1e-3
    assert manifest_of(out)["status"] == "finished"


def test_a_finished_run_makes_its_summary_again_from_the_table(llama_folder, cases, screened, tmp_path):
    study = study_of(tree_of(llama_folder, cases, screen={"keep": 6, "sample": 5}))
    before = (screened / "summary.json").read_bytes()
    (screened / "summary.json").unlink()
    run_study(study, Options(screened))
    assert (screened / "summary.json").read_bytes() == before
    table = (screened / "screen.parquet").read_bytes()
    (screened / "screen.parquet").unlink()
    with pytest.raises(pb.PatchboardError, match=r"screen.parquet: of a finished run is missing"):
        run_study(study, Options(screened))
    (screened / "screen.parquet").write_bytes(table)


@pytest.mark.parametrize("flags", [(), ("--plan",)])
def test_a_host_cannot_screen(llama_folder, cases, tmp_path, capsys, flags):
    """Refused before the host is asked for anything: there is none at this address."""
    tree = tree_of(llama_folder, cases, screen={})
    assert run(tree, tmp_path / "run", "--remote", "http://127.0.0.1:9", *flags) == 2
    error = one_error(capsys)
    assert (
        error.startswith("error: screen: cannot be on a host, which may give a job copies of states")
        and "--remote" in error
    )
    assert not (tmp_path / "run").exists()
