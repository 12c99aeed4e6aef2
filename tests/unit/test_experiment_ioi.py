"""The story of indirect object identification: its choices, its numbers by loops over outcomes, its sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from patchboard.experiments.ioi.findings import findings, introduction, overview
from patchboard.experiments.ioi.measures import ALL, cells, kind_of, movers_of, task_table
from patchboard.experiments.ioi.study import METRIC, other_heads, windows_of
from patchboard.measure.outcome_index import index_outcomes
from patchboard.measure.statistics import Bootstrap
from patchboard.plan.facts import ModelFacts
from patchboard.spec.sections import TasksSection
from patchboard.store.schema import OUTCOMES
from patchboard.tasks.families.ioi import TEMPLATES
from patchboard.tasks.resolve import build_family
from tests.ioi_models import saved_ioi_model
from tests.scripts import must_refuse, ran

BOOTSTRAP = Bootstrap(200, 0.95, 0)
SMALL = ("--prompts.queries=5", "--statistics.bootstrap=200", "--movers=2", "--window=2", "--wandb=off")


def test_windows_cover_all_layers_and_overlap():
    for layers in range(1, 13):
        for size in range(1, 14):
            windows = windows_of(layers, size)
            assert {layer for first, end in windows for layer in range(first, end)} == set(range(layers))
            assert all(end - first == min(size, layers) for first, end in windows)
            assert windows == sorted(set(windows))


def test_others_are_as_many_heads_of_the_same_layers():
    facts = ModelFacts("llama", 4, 48, 300, 96, 4, 12, ())
    for seed in range(20):
        others = other_heads([(2, 0), (3, 1), (3, 2)], facts, seed)
        assert len(set(others)) == 3 and {layer for layer, _ in others} <= {2, 3}
        assert not {(2, 0), (3, 1), (3, 2)} & set(others)
    assert {layer for layer, _ in other_heads([(1, n) for n in range(4)], facts, 0)} <= {2, 3}, "none are left there"


@pytest.mark.parametrize("order", ["ABBA", "BABA"])
def test_each_sentence_is_told_by_its_template_and_order(order):
    family = build_family(
        TasksSection.model_validate({"family": "ioi", "orders": [order], "include_null": False}), False
    )
    kinds = {kind_of(item.input, item.answers["ioi"], TEMPLATES) for item in family.pool(0)}
    assert kinds == {(template, order) for template in TEMPLATES}
    assert kind_of("No such sentence", "Mary", TEMPLATES) == ("", "")


def outcome_rows(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """A table of OUTCOMES with these fields set."""
    usual = {
        "task": "ioi", "vector_task": "", "op": "path", "site": "head", "position": "last", "strength": 1.0,
        "shots": 0, "seed": 0, "control": "", "clean": 4.0, "metric": METRIC, "intervention": "to_logits",
    }  # fmt: skip
    full = [{**usual, **row, "layers": str(row["layer"])} for row in rows]
    return pl.DataFrame([{name: row[name] for name in OUTCOMES} for row in full], schema=OUTCOMES)


def test_movers_are_chosen_on_even_queries_and_measured_on_odd_ones():
    """1.0 falls most on even queries; 1.1 rises, however much; 0.0 falls more, but no head is before it."""
    changes = {(0, 0): (-9.0, -9.0), (0, 1): (0.0, 0.0), (1, 0): (-2.0, 0.5), (1, 1): (8.0, 8.0), (2, 0): (-1.0, -3.0)}
    rows = [
        {"layer": layer, "head": head, "query": q, "patched": 4.0 + of[q % 2]}
        for (layer, head), of in changes.items()
        for q in range(6)
    ]
    table = cells(index_outcomes(outcome_rows(rows).lazy()), "to_logits", BOOTSTRAP)
    assert table.select("chosen", "odd", "n").rows() == [(even, odd, 6) for even, odd in changes.values()]
    assert table["effect"].to_list() == [(even + odd) / 2 for even, odd in changes.values()]
    heads = table.with_columns(what=pl.lit("logits"), source=pl.lit("flip"))
    assert movers_of(heads, 2) == [(1, 0), (2, 0)]


def test_the_task_is_told_by_order_and_template():
    mary, john = (
        "When Mary and John went to the store, John gave a ring to",
        "At the park, Tom and Amy had a long talk.",
    )
    john += " Afterwards Tom sent a book to"
    prompts = pl.DataFrame({"query": [0, 1], "text": [mary, john], "answer": ["Mary", "Amy"]})
    rows = [
        {"layer": 1, "head": -1, "query": q, "metric": metric, "clean": value, "patched": value}
        for q, values in enumerate([(3.0, 1.0), (-1.0, 0.0)])
        for metric, value in zip((METRIC, "accuracy"), values, strict=True)
    ]
    table = task_table(outcome_rows(rows), prompts, TEMPLATES, BOOTSTRAP)
    found = {row["group"]: (row["difference"], row["preferred"], row["accuracy"], row["n"]) for row in table.to_dicts()}
    assert found == {
        ALL: (1.0, 0.5, 0.5, 2), "ABBA": (3.0, 1.0, 1.0, 1), "BABA": (-1.0, 0.0, 0.0, 1),
        TEMPLATES[0]: (3.0, 1.0, 1.0, 1), TEMPLATES[6]: (-1.0, 0.0, 0.0, 1),
    }  # fmt: skip


def measured(chosen: float, odd: float, n: int = 8) -> dict[str, Any]:
    """Of a cell, an interval of .5 around each."""
    effect = (chosen + odd) / 2
    ends = {"ci_low": effect - 0.5, "ci_high": effect + 0.5, "odd_low": odd - 0.5, "odd_high": odd + 0.5}
    return {"clean": 4.0, "effect": effect, "chosen": chosen, "odd": odd, "n": n, **ends}


def hand_made() -> dict[str, Any]:
    """A summary of three layers of two heads."""
    task = {"difference": 4.0, "ci_low": 3.0, "ci_high": 5.0, "preferred": 0.9, "accuracy": 0.6, "n": 40}
    places = [
        {"source": source, "position": position, "layer": layer, **measured(value * (source == "flip"), value * weaker)}
        for source, weaker in (("flip", 0.75), ("reordered", 0.0))
        for position, values in {"IO": (-8.0, -6.0, -1.0), "last": (0.0, -1.0, -8.0)}.items()
        for layer, value in enumerate(values)
        if source == "flip" or position == "last"
    ]
    effects = {
        "output": {(2, 0): (-4.0, -3.0), (2, 1): (2.0, 1.5), (1, 0): (-0.2, -0.1)},
        "logits": {(2, 0): (-3.0, -2.5), (2, 1): (2.0, 2.0), (1, 0): (-0.1, 0.0)},
        "movers": {(1, 0): (-1.0, -0.75), (0, 0): (-0.2, 0.1)},
        "others": {(1, 0): (-0.1, 0.0), (0, 0): (0.0, 0.0)},
    }
    heads = [
        {"what": what, "source": source, "layer": layer, "head": head}
        | measured(*(values if source != "reordered" else (0, 0)))
        for what, of in effects.items()
        for source in ("turned" if what in ("movers", "others") else "flip", "reordered")
        for (layer, head), values in of.items()
        if (what, source) != ("others", "reordered")
    ]
    cuts = [
        {"origin": origin, "layers": layers, "layer": int(layers[0]), "control": control}
        | measured(value, value + 0.25)
        for origin, control, layers, value in (
            ("IO", "", "0,1", -0.5), ("IO", "random_edges", "0,1", -0.25), ("IO", "", "1,2", -3.0),
            ("IO", "random_edges", "1,2", 0.25), ("S2", "", "0,1", -1.0),
        )
    ]  # fmt: skip
    attending = [
        {"part": part, "source": source, **measured(value, value)}
        for part, of in {"queries": (-1.5, 0.25, -1), "keys": (-1.0, 0.0, 0.0), "values": (0.0, -4.0, 0.5)}.items()
        for source, value in zip(("turned", "flip", "reordered"), of, strict=True)
    ]
    missed = {"layer": 2, "place": "1", "estimate": 0.125, "effect": -2.0}
    screen = [
        {"part": "heads", "cells": 6, "spearman": 0.75, "of": 3, "found": 2, "missed": [missed]},
        {"part": "places", "cells": 9, "spearman": None, "of": 2, "found": 2, "missed": []},
    ]
    return {
        "model": "m", "layers": 3, "heads_of_a_layer": 2, "queries": 8, "level": 0.95, "movers": [[2, 0]],
        "others": [[2, 1]], "attending": attending, "screen": screen, "places": places, "heads": heads, "cuts": cuts,
        "task": [
            {"group": ALL, **task}, {"group": "ABBA", **task},
            {"group": "[A] low", **task, "difference": 1.0}, {"group": "[B] high", **task, "difference": 6.0},
        ],
    }  # fmt: skip


def test_sentences_tell_what_the_numbers_say():
    task, places, outputs, direct, movers, cuts, screen = findings(hand_made())
    assert task == (
        "The task: IO's name is preferred to the subject's in 0.90 of 40 sentences, by a logit difference of +4.000"
        ' [+3.000, +5.000]; it is the most probable token in 0.60. By template from +1.000 ("[A] low", preferred in'
        ' 0.90) to +6.000 ("[B] high"). By order: ABBA +4.000 [+3.000, +5.000].'
    )
    assert "IO -6.000 [-6.500, -5.500] at layer 0 (half of that or more: layers 0-1);" in places
    assert "last -6.000 [-6.500, -5.500] at layer 2." in places
    assert places.endswith("Of the reordered sentence: last 0 [-0.500, +0.500] at layer 0.") and "turned" not in places
    assert outputs.startswith(
        "Heads at the last token: 2.0 -3.000 [-3.500, -2.500], 2.1 +1.500 [+1.000, +2.000] and 1.0"
    )
    assert "Of 3 heads 2 have an interval that leaves out zero, with the reordered sentence 0, by chance" in outputs
    assert outputs.endswith("The reordered sentence's own largest: 2.0 0 [-0.500, +0.500] and 2.1 0 [-0.500, +0.500].")
    assert "Of 2.0's effect on its own (-3.000 [-3.500, -2.500]) -2.500 [-3.000, -2.000] is direct." in direct
    assert movers.startswith(
        "Movers, the 1 head whose direct effect lowers the logit difference most: 2.0. Put into them, all at once:"
        " queries at the last token of the sentence turned -1.500 [-2.000, -1.000], flipped +0.250 [-0.250, +0.750],"
        " reordered -1.000 [-1.500, -0.500]; keys at all tokens of the sentence turned -1.000"
    )
    assert "values at all tokens of the sentence turned 0 [-0.500, +0.500], flipped -4.000" in movers
    assert "Through their queries, from heads of the turned sentence: 1.0 -0.750 [-1.250, -0.250] and 0.0" in movers
    assert movers.endswith("as many other heads (2.1): 1.0 0 [-0.500, +0.500] and 0.0 0 [-0.500, +0.500].")
    assert "to IO -2.750 [-3.250, -2.250] in layers 1-2, random edges +0.500 [0, +1.000]; to S2 -0.750" in cuts
    assert screen == (
        "A screen by one pass forwards and backwards a sentence (attribution patching), 6 heads: rank correlation with"
        " the exact effects 0.75, of the 3 largest 2 are among as many largest estimates (not 2.1, estimated +0.125,"
        " exactly -2.000); 9 places: rank correlation with the exact effects -, of the 2 largest 2 are among as many"
        " largest estimates."
    )
    assert findings({**hand_made(), "screen": []})[-1] == "A screen by gradients is not made on a host."
    assert all(introduction(hand_made())) and [len(table.rows) for table in overview(hand_made())] == [4, 3, 3, 2]


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--tasks.family=greater_than", "tasks.family: is greater_than, expected ioi"),
        ("--metrics=[logprob]", "metrics: are logprob, expected logit_difference first, and accuracy"),
        ("--prompts.queries=1", "prompts.queries: 1 query cannot be halved"),
        ("--prompts.seed={sweep: [0, 1]}", "prompts.seed: is swept, expected one setting"),
        ("--interventions.heads.site=attn_out", "interventions.heads: is not there as a patch at site head"),
        ("--interventions={}", "interventions.places: is not there as a patch at site resid_post"),
        ("--movers=11", "--movers: asks for 11 heads and as many others of 20 behind the first layer"),
        ("--movers=0", "argument --movers: found '0', expected a whole number above 0"),
        ("--window=two", "argument --window: found 'two', expected a whole number above 0"),
    ],
)
def test_what_it_cannot_mean_is_one_line_and_nothing_is_written(argument, says, tmp_path):
    must_refuse(ran("ioi.py", "--model=embedded", argument, "--out", tmp_path / "run"), says, tmp_path / "run")


@pytest.mark.slow
def test_a_gpt2_folder_from_end_to_end(tmp_path, monkeypatch):
    """Interrupted after its three runs, resumed without computing them again, shown without writing anything."""
    out = tmp_path / "run"
    asked = ("--model", saved_ioi_model(tmp_path / "model", "gpt2"), *SMALL, "--out", out)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("patchboard.experiments.ioi.experiment.places_table", interrupted)
        status, _, error = ran("ioi.py", *asked)
    assert status == 130 and "resumes" in error
    inner = [out / "experiment" / name for name in ("experiment-task", "experiment-movers")]
    before = {each: each.stat().st_mtime_ns for run in inner for each in run.rglob("*") if each.is_file()}
    assert all((run / "report.html").is_file() for run in inner)
    status, told, error = ran("ioi.py", *asked)
    assert (status, error) == (0, "") and told.startswith("The task: ")
    assert all(each.stat().st_mtime_ns == time for each, time in before.items())
    before = {each: each.stat().st_mtime_ns for each in out.rglob("*") if each.is_file()}
    assert ran("ioi.py", *asked) == (0, told, "")
    assert before == {each: each.stat().st_mtime_ns for each in out.rglob("*") if each.is_file()}
    names = {path.stem for path in (out / "experiment" / "figures").iterdir()}
    assert names == {"task", "places", "heads", "paths-logits", "paths-movers", "knock-out", "screen"}
    check_numbers(out)
    check_estimates(out)


def check_estimates(out: Path) -> None:
    """Each estimate of the screen beside the exact number of the first run, and what the summary counts of them."""
    outcomes = pl.read_parquet(out / "outcomes.parquet").filter(metric=METRIC)
    table = pl.read_parquet(out / "experiment" / "estimates.parquet")
    estimated = pl.read_parquet(out / "experiment" / "experiment-screen" / "screen.parquet")
    assert table.group_by("part").len().sort("part")["len"].to_list() == [4 * 4, 4 * 6]
    for row in table.to_dicts():
        place = pl.col("interventions.places.position") if row["part"] == "places" else pl.col("head").cast(pl.String)
        here = place == row["place"], pl.col("intervention") == row["part"], pl.col("layer") == row["layer"]
        mine = outcomes.filter(*here)
        assert row["effect"] == pytest.approx((mine["patched"] - mine["clean"]).mean(), abs=1e-9)
        assert [row["estimate"]] == estimated.filter(*here)["estimate"].to_list()
    for each in json.loads((out / "experiment" / "summary.json").read_text())["screen"]:
        rows = table.filter(part=each["part"]).to_dicts()
        best = [
            {(row["layer"], row["place"]) for row in sorted(rows, key=lambda row: -abs(row[name]))[:10]}
            for name in ("estimate", "effect")
        ]
        assert (each["found"], each["of"], each["cells"]) == (len(best[0] & best[1]), 10, len(rows))


def check_numbers(out: Path) -> None:
    """Each head's and cut's numbers by a loop over outcomes; the movers' own run is of the movers."""
    outcomes = pl.read_parquet(out / "outcomes.parquet").filter(metric=METRIC)
    heads = pl.read_parquet(out / "experiment" / "heads.parquet")
    last = pl.read_parquet(out / "experiment" / "experiment-movers" / "outcomes.parquet").filter(metric=METRIC)
    of = {"output": ("heads", outcomes), "logits": ("to_logits", outcomes), "movers": ("to_movers", last)}
    of["others"] = ("to_others", last)
    assert heads.group_by("what", "source").len().height == 7
    for row in heads.to_dicts():
        name, table = of[row["what"]]
        mine = table.filter(
            intervention=name + "_reordered" * (row["source"] == "reordered"), layer=row["layer"], head=row["head"]
        ).to_dicts()
        change = {each["query"]: each["patched"] - each["clean"] for each in mine}
        assert len(change) == row["n"] == 5
        assert row["effect"] == pytest.approx(sum(change.values()) / 5, abs=1e-9)
        assert row["chosen"] == pytest.approx(sum(change[q] for q in (0, 2, 4)) / 3, abs=1e-9)
        assert row["odd"] == pytest.approx((change[1] + change[3]) / 2, abs=1e-9)
    direct = heads.filter(pl.col("layer") > 0, what="logits", source="flip").sort("chosen")
    movers = [list(head) for head in direct.head(2).select("layer", "head").iter_rows()]
    assert json.loads((out / "experiment" / "summary.json").read_text())["movers"] == movers
    spec = (out / "experiment" / "experiment-movers" / "spec.yaml").read_text()
    assert all(str(head[0]) in spec for head in movers)
    cuts = pl.read_parquet(out / "experiment" / "cuts.parquet")
    assert set(cuts["layers"]) == {"0,1", "1,2", "2,3"} and set(cuts["control"]) == {"", "random_edges"}
    task = pl.read_parquet(out / "experiment" / "task.parquet")
    assert task["group"].to_list() == [ALL, "ABBA", "BABA", *TEMPLATES] and task["n"][0] == 160
