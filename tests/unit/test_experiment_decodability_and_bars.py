"""The experiments on language models: pairs, layer choice, replicates and matrix, against literal formulas."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest
import torch

from patchboard.errors import SpecError
from patchboard.experiments.intervention_bars.experiment import choose_layers
from patchboard.measure.pairs import choose, pairwise
from patchboard.measure.replicates import bars
from patchboard.measure.statistics import Bootstrap
from tests.scripts import must_refuse, ran

BOOTSTRAP = Bootstrap(200, 0.95, 0)
LOPSIDED = ["AND"] * 25 + ["OR"] * 9 + ["XOR"] * 4 + ["Null"] * 11


def literal_pair(states: np.ndarray, labels: list[str], pair: tuple[str, str], k: int) -> float:
    """Keep the two labels' points; sort all others by distance; count the first k; the nearest of the tied decides."""
    kept = [i for i in range(len(labels)) if labels[i] in pair]
    right = 0
    for i in kept:
        others = sorted((j for j in kept if j != i), key=lambda j: float(((states[j] - states[i]) ** 2).sum()))
        near = [labels[j] for j in others[:k]]
        most = max(Counter(near).values())
        right += labels[i] == next(label for label in near if Counter(near)[label] == most)
    return right / len(kept)


@pytest.mark.parametrize("k", [1, 4, 10])
def test_cd_of_pairs_equals_a_literal_search_on_lopsided_points(k):
    rng = np.random.default_rng(k)
    centres = {label: 0.6 * rng.normal(size=5) for label in dict.fromkeys(LOPSIDED)}
    states = np.stack([centres[label] for label in LOPSIDED]) + rng.normal(size=(len(LOPSIDED), 5))
    table = pairwise(torch.from_numpy(states), LOPSIDED, k, BOOTSTRAP)
    assert table.height == 6 and set(table["chance"]) == {0.5}
    for row in table.iter_rows(named=True):
        pair = row["task"], row["other"]
        assert row["cd"] == literal_pair(states, LOPSIDED, pair, k), pair
        assert row["n"] == sum(label in pair for label in LOPSIDED)
        assert row["ci_low"] <= row["cd"] <= row["ci_high"]
    assert table["cd"].n_unique() > 3, "planted clusters of unequal distance would otherwise prove nothing"


def test_a_pair_without_k_other_points_is_refused():
    with pytest.raises(SpecError, match="12 neighbours wanted, a point has 12 others|13 neighbours wanted"):
        pairwise(torch.zeros(len(LOPSIDED), 2), LOPSIDED, 13, BOOTSTRAP)


def test_the_layer_is_the_best_one_and_the_other_half_of_the_points_judges_it():
    """Layer 2 is right at the even points alone: the choice by them is shown up by the odd ones."""
    labels = ["A"] * 40 + ["B"] * 40
    even = np.arange(80) % 2 == 0
    right = np.stack([np.arange(80) % 4 < 2, np.arange(80) % 5 < 3, even])
    found = choose(right, labels, BOOTSTRAP)
    assert (found.layer, found.cd) == (1, 0.6)
    assert (found.half_layer, found.half_cd, found.ci_low, found.ci_high) == (2, 0.0, 0.0, 0.0)


SMALL = ("--tasks.bits=4", "--tasks.only=[AND, OR, XOR]", "--statistics.bootstrap=200")
SMALL_CD = ("--decodability.k=3", "--decodability.prompts=6", "--decodability.shots=[0, 2]")


def test_decodability_of_another_family_agrees_with_its_run(gpt2_folder, tmp_path, monkeypatch):
    out = tmp_path / "run"
    asked = ("--model", gpt2_folder, *SMALL, *SMALL_CD, "--prompts.shots=2", "--out", out)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("patchboard.experiments.decodability.experiment.pairwise", interrupted)
        status, _, error = ran("decodability.py", *asked)
    assert status == 130 and "resumes" in error
    status, told, error = ran("decodability.py", *asked)
    assert (status, error) == (0, "") and str(out / "experiment" / "report.html") in told
    pairs = pl.read_parquet(out / "experiment" / "pairs.parquet")
    assert set(zip(pairs["task"], pairs["other"], strict=True)) == {
        ("AND", "OR"), ("AND", "XOR"), ("AND", "Null"), ("OR", "XOR"), ("OR", "Null"), ("XOR", "Null"),
    }  # fmt: skip
    # the states were computed a second time: the layer and its CD are those of the run's own table
    table = pl.read_parquet(out / "decodability.parquet").filter(pl.col("task") == "ALL", pl.col("shots") == 2)
    assert f"2 shots: {table.sort('layer')['cd'].arg_max()}, CD {table['cd'].max():.2f}" in told
    projection = pl.read_parquet(out / "experiment" / "projection.parquet")
    assert projection.height == 4 * 6 * 2
    before = {each: each.stat().st_mtime_ns for each in out.rglob("*") if each.is_file()}
    assert ran("decodability.py", *asked)[1] == told
    assert {each: each.stat().st_mtime_ns for each in out.rglob("*") if each.is_file()} == before


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--decodability=null", "decodability: is null"),
        ("--decodability.prompts=5", "decodability.k: 10 neighbours wanted, a point has 9 others"),
        ("--prompts.seed={sweep: [0, 1]}", "prompts.seed: is swept, expected one setting"),
        ("--decodability.kk=5", "--decodability.kk: unknown"),
        ("--device=tpu", "command line: argument --device"),
        ("--model=/nowhere/at/all", "model.name: there is no folder"),
    ],
)
def test_what_decodability_cannot_mean_is_one_line_and_nothing_is_written(argument, told, tmp_path):
    must_refuse(ran("decodability.py", argument, "--out", tmp_path / "run"), told, tmp_path / "run")


def literal_bar(outcomes: pl.DataFrame, layer: int, shots: int, task: str, name: str, column: str) -> tuple:
    """(mean of the seeds' means, their standard deviation with n - 1, rows), in a loop over rows."""
    by_seed: dict[int, list[float]] = {}
    for row in outcomes.iter_rows(named=True):
        at = row["layer"], row["shots"], row["task"], row["intervention"], row["control"], row["metric"]
        if at == (layer, shots, task, name, "", "accuracy"):
            by_seed.setdefault(row["seed"], []).append(row[column])
    means = [sum(values) / len(values) for values in by_seed.values()]
    mean = sum(means) / len(means)
    sd = (sum((m - mean) ** 2 for m in means) / (len(means) - 1)) ** 0.5
    return mean, sd, sum(map(len, by_seed.values()))


@pytest.mark.slow  # some 15 s, of which the library takes nearly all: two seeds are fitted and run
def test_bars_and_matrix_are_the_runs_own_outcomes(gpt2_folder, tmp_path):
    out = tmp_path / "run"
    asked = (
        "--model", gpt2_folder, *SMALL, "--decodability.k=3", "--decodability.prompts=6", "--decodability.shots=[2]",
        "--prompts.shots={sweep: [0, 2]}", "--prompts.seed={sweep: [0, 1]}", "--prompts.queries=6",
        "--interventions.positive.layers=[1, 3]", "--interventions.negative.layers=[1, 3]",
        "--interventions.positive.vector.prompts=6", "--interventions.positive.vector.shots=2",
        "--interventions.negative.vector.prompts=6", "--interventions.negative.vector.shots=2", "--out", out,
    )  # fmt: skip
    status, told, error = ran("intervention_bars.py", *asked)
    assert (status, error) == (0, "") and str(out / "experiment" / "report.html") in told
    outcomes = pl.read_parquet(out / "outcomes.parquet")
    table = pl.read_parquet(out / "experiment" / "bars.parquet").filter(pl.col("chosen_by") == "cd")
    assert set(table["condition"]) == {"unperturbed", "positive", "negative", "random"} and table.height == 4 * 3 * 2
    sources = {name: (name, "patched") for name in ("positive", "negative")} | {"unperturbed": ("positive", "clean")}
    for row in table.filter(pl.col("condition") != "random").iter_rows(named=True):
        at = row["layer"], row["shots"], row["task"]
        assert (row["mean"], row["sd"], row["n"]) == pytest.approx(
            literal_bar(outcomes, *at, *sources[row["condition"]])
        )
    matrix = pl.read_parquet(out / "experiment" / "matrix.parquet").filter(pl.col("chosen_by") == "cd")
    layer = matrix["layer"][0]
    for row in matrix.filter(pl.col("measure") != "accuracy").iter_rows(named=True):
        own = outcomes.filter(
            pl.col("layer") == layer,
            pl.col("shots") == row["shots"],
            pl.col("task") == row["target"],
            pl.col("metric") == row["measure"],
            pl.col("intervention") == ("negative" if row["source"] == "Null" else f"from-{row['source']}"),
            pl.col("control") == "",
            pl.col("patched").is_not_nan(),
        )
        change = own["patched"] - (own["clean"] if row["measure"] == "logprob" else 0)
        by_seed = own.with_columns(change=change).group_by("seed").agg(pl.col("change").mean())["change"]
        assert (row["mean"], row["n"]) == pytest.approx((by_seed.mean(), own.height)), row
    # the task's own mean on its own prompts is `positive`
    gained = {r["task"]: r["mean"] for r in table.filter(shots=0, condition="positive").iter_rows(named=True)}
    clean = {r["task"]: r["mean"] for r in table.filter(shots=0, condition="unperturbed").iter_rows(named=True)}
    diagonal = matrix.filter(pl.col("source") == pl.col("target"), shots=0, measure="accuracy")
    assert dict(diagonal.select("source", "mean").iter_rows()) == pytest.approx(
        {task: gained[task] - clean[task] for task in gained}
    )
    assert matrix.filter(measure="logprob")["mean"].abs().max() > 1e-3, "an edit without effect would prove nothing"
    assert ran("intervention_bars.py", *asked)[1] == told


def test_the_layer_of_an_effect_is_chosen_on_queries_that_its_table_leaves_out():
    """At layer 0 the even queries gain, at layer 1 the odd ones and one of the even: of all queries layer 1 has the
    larger gain. The choice is 0, what is then measured is no gain."""
    gains = {0: {0, 2, 4, 6, 8}, 1: {1, 3, 5, 7, 9, 0}}
    rows = [
        {"layer": layer, "query": query, "patched": float(query in gains[layer]), "task": "AND", "shots": 0, "seed": 0}
        for layer in (0, 1)
        for query in range(10)
    ]
    outcomes = pl.DataFrame(rows).with_columns(
        clean=pl.lit(0.0), intervention=pl.lit("positive"), control=pl.lit(""), metric=pl.lit("accuracy")
    )
    table = pl.DataFrame({"task": ["ALL", "ALL"], "layer": [0, 1], "shots": [4, 4], "cd": [0.2, 0.9]})
    (by_cd, at, everything), (by_effect, layer, held) = choose_layers(outcomes.lazy(), table)
    assert (by_cd, at, everything.collect().height) == ("cd", 1, 20)
    assert (by_effect, layer) == ("effect", 0)
    assert bars(held, 0, BOOTSTRAP).filter(condition="positive")["mean"].to_list() == [0.0]


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--model.name={sweep: [embedded, other]}", "model.name: is swept"),
        ("--decodability=null", "decodability: is null"),
        ("--interventions.positive.vector.mean=AND", "interventions.positive: is not there with a vector of same_task"),
        ("--layers=many", "--layers"),
        ("--layer=3", "--layer: "),
    ],
)
def test_what_the_bars_cannot_mean_is_one_line_and_nothing_is_written(argument, told, tmp_path):
    must_refuse(ran("intervention_bars.py", argument, "--out", tmp_path / "run"), told, tmp_path / "run")
