"""Conditions side by side, and the concept stated in the prompt: every number against a literal formula."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from patchboard.experiment.conditions import Condition, compare_conditions, over_tasks, summary_of_comparison
from patchboard.experiments.prompting.experiment import PREFIX, condition_name
from patchboard.measure.statistics import Bootstrap, interval
from tests.scripts import must_refuse, ran

BOOTSTRAP = Bootstrap(400, 0.9, 3)


def outcomes(seed: int, tasks: dict[str, int]) -> pl.DataFrame:
    """Planted outcomes of two interventions at two layers and two numbers of shots; query 1 is excluded."""
    rng = np.random.default_rng(seed)
    rows = []
    for shots in (0, 4):
        for task, queries in tasks.items():
            clean = rng.integers(0, 2, queries).astype(float)
            clean[1] = np.nan
            for name in ("added", "other"):
                for layer in (0, 1):
                    patched = rng.integers(0, 2, queries).astype(float)
                    for query in range(queries):
                        place = {"intervention": name, "control": "", "layer": layer, "shots": shots, "task": task}
                        rows += [{**place, "query": query, "metric": "accuracy", "clean": clean[query],
                                  "patched": patched[query]}]  # fmt: skip
                        rows += [{**rows[-1], "metric": "kl", "clean": 9.0}, {**rows[-1], "control": "self"}]
    return pl.DataFrame(rows)


def decodability(best: int) -> pl.DataFrame:
    rows = [
        {"task": task, "layer": layer, "shots": shots, "cd": cd + 0.1 * (layer == best) + 0.01 * shots, "n": 10,
         "ci_low": 0.0, "ci_high": 1.0, "chance": 0.25}
        for layer in (0, 1, 2)
        for shots in (0, 4)
        for task, cd in (("A", 0.2), ("B", 0.5), ("Null", 0.9), ("ALL", 0.5 + 0.2 * (layer == 2)))
    ]  # fmt: skip
    return pl.DataFrame(rows)


def literal(table: pl.DataFrame, measure: str, name: str, shots: int, layer: int) -> dict[str, dict[int, float]]:
    """Task -> query -> value, in a loop over rows."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for row in table.iter_rows(named=True):
        if (row["metric"], row["control"], row["layer"], row["shots"]) != ("accuracy", "", layer, shots):
            continue
        if row["intervention"] == name and row["clean"] == row["clean"]:
            value = row["clean"] if measure == "accuracy" else row["patched"] - row["clean"]
            found[row["task"]][row["query"]] = value
    return found


def test_every_value_and_difference_is_a_literal_mean():
    """The second condition lacks query 0 of A: differences are of the queries that both have."""
    first, second = outcomes(0, {"A": 9, "B": 5}), outcomes(1, {"A": 9, "B": 5})
    second = second.with_columns(
        clean=pl.when(pl.col("task") == "A", pl.col("query") == 0).then(float("nan")).otherwise("clean")
    )
    conditions = [
        Condition("base", first.lazy(), decodability(best=1)),
        Condition("tuned", second.lazy(), decodability(best=0)),
    ]
    table = compare_conditions(conditions, BOOTSTRAP)
    summary = summary_of_comparison(table)
    # layer 2 has the highest CD and no edit
    assert (summary["layer"], summary["shots"], summary["own"]) == (1, 4, {"base": 1, "tuned": 0})
    assert summary["compared"] == table.to_dicts()
    rows = table.filter(pl.col("measure").is_in(["accuracy", "effect"]))
    assert rows.height == 2 * 2 * (1 + 2) * 3
    for row in rows.iter_rows(named=True):
        outcome = first if row["condition"] == "base" else second
        place = row["measure"], row["intervention"] or "added", row["shots"], 1
        own, base = literal(outcome, *place), literal(first, *place)
        means = {task: float(np.mean(list(values.values()))) for task, values in own.items()}
        pairs = {t: [v - base[t][q] for q, v in own[t].items() if q in base[t]] for t in own}
        differences = {task: float(np.mean(values)) for task, values in pairs.items()}
        if row["task"] == "ALL":
            a, b = means.values()
            assert row["value"] == pytest.approx((a + b) / 2), row
            assert row["sd"] == pytest.approx(abs(a - b) / 2**0.5)
            assert row["n"] == sum(map(len, own.values()))
            difference = np.mean(list(differences.values()))
        else:
            assert row["value"] == pytest.approx(means[row["task"]]), row
            assert row["sd"] is None and row["n"] == len(own[row["task"]])
            difference = differences[row["task"]]
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
        if row["condition"] == "base":
            assert row["difference"] is None
        else:
            assert row["difference"] == pytest.approx(difference, abs=1e-9), row
            assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert rows["difference"].n_unique() > 6, "planted differences would otherwise prove nothing"


def test_cd_is_that_of_the_base_layer_and_of_the_own_one_without_null():
    conditions = [
        Condition(name, outcomes(0, {"A": 4, "B": 4}).lazy(), decodability(best)) for name, best in (("x", 1), ("y", 0))
    ]
    table = compare_conditions(conditions, BOOTSTRAP)
    of_all = table.filter(pl.col("task") == "ALL", pl.col("shots") == 4)
    values = {(r["condition"], r["measure"]): (r["layer"], r["value"]) for r in of_all.iter_rows(named=True)}
    assert values["x", "cd"] == values["x", "own cd"] == (1, pytest.approx(0.35 + 0.1 + 0.04))
    assert values["y", "cd"] == (1, pytest.approx(0.35 + 0.04))
    assert values["y", "own cd"] == (0, pytest.approx(0.35 + 0.1 + 0.04))
    assert "Null" not in set(table["task"])


def test_the_mean_over_tasks_weighs_them_alike_and_its_interval_is_the_stratified_one():
    rng = np.random.default_rng(0)
    even = {"A": rng.normal(size=40), "B": rng.normal(3, 1, size=40)}
    *_, overall = over_tasks(even, BOOTSTRAP)
    low, high = interval(np.concatenate(list(even.values()))[:, None], BOOTSTRAP, ["A"] * 40 + ["B"] * 40)
    assert (overall["ci_low"], overall["ci_high"]) == (pytest.approx(low[0]), pytest.approx(high[0]))
    *_, overall = over_tasks({"A": np.zeros(90), "B": np.ones(10)}, BOOTSTRAP)
    assert (overall["value"], overall["ci_low"], overall["ci_high"]) == (0.5, 0.5, 0.5)


SMALL = (
    "--tasks.only=[AND, OR]", "--statistics.bootstrap=100", "--prompts.queries=6", "--prompts.shots={sweep: [0, 2]}",
    "--interventions.added.vector.prompts=6", "--interventions.added.vector.shots=2",
    "--interventions.added.layers=[1, 2]",
    "--decodability={k: 3, prompts: 6, shots: [0, 2]}", "--wandb", "off",
)  # fmt: skip


@pytest.mark.slow
def test_prompting_of_another_family_compares_its_run(tmp_path, gpt2_folder, monkeypatch):
    out = tmp_path / "run"
    asked = ("--model", gpt2_folder, *SMALL, "--out", out)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("patchboard.experiments.prompting.experiment.compare_conditions", interrupted)
        status, _, error = ran("prompting.py", *asked)
    assert status == 130 and "resumes" in error
    status, told, error = ran("prompting.py", *asked)
    assert (status, error) == (0, "") and str(out / "experiment" / "report.html") in told
    # a model of random weights answers nothing: the page must not pass its vectors off as of correct prompts
    assert told.count("was answered correctly: vectors use all fit prompts") == 1
    assert "was answered correctly: vectors use all fit prompts" in (out / "experiment" / "report.html").read_text()
    table = pl.read_parquet(out / "experiment" / "compared.parquet")
    assert table["condition"].unique(maintain_order=True).to_list() == ["unstated", r"stated: {task}\n"]
    # against the run's own effects, which are computed from the same outcomes in another way
    effects = pl.read_parquet(out / "effects.parquet").filter(pl.col("control") == "", pl.col("metric") == "accuracy")
    summary = json.loads((out / "experiment" / "summary.json").read_text())
    for row in table.filter(pl.col("measure") == "effect", pl.col("task") != "ALL").iter_rows(named=True):
        (own,) = [
            r
            for r in effects.iter_rows(named=True)
            if (r["layer"], r["task"], r["shots"]) == (summary["layer"], row["task"], row["shots"])
            and condition_name(r[PREFIX]) == row["condition"]
        ]
        fields = ("ci_low", "ci_high", "n")
        assert (row["value"], *(row[f] for f in fields)) == pytest.approx((own["effect"], *(own[f] for f in fields)))
    before = {each: each.stat().st_mtime_ns for each in out.rglob("*") if each.is_file()}
    assert ran("prompting.py", *asked)[1] == told
    assert {each: each.stat().st_mtime_ns for each in out.rglob("*") if each.is_file()} == before
    _every_prompt_states_its_task(out)


def _every_prompt_states_its_task(out: Path) -> None:
    """Evaluated, fitted and decoded prompts follow the sweep, and hold the same rows but for the prefix."""
    prompts = pl.read_parquet(out / "prompts.parquet")
    stated = prompts.filter(pl.col("swept").str.contains("{task}", literal=True))
    for role in ("evaluate", "fit", "decodability"):
        mine = stated.filter(pl.col("role") == role)
        texts = {(r["task"], r["shots"], r["query"]): r["text"] for r in mine.iter_rows(named=True)}
        plain = prompts.filter(pl.col("role") == role, ~pl.col("swept").str.contains("{task}", literal=True))
        others = {(r["task"], r["shots"], r["query"]): r["text"] for r in plain.iter_rows(named=True)}
        assert texts and texts == {key: f"{key[0]}\n{text}" for key, text in others.items()}, role


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ('--prompts.template.prefix="{task}:"', "prompts.template.prefix: sweeps 0 prefixes of which 0 lack {task}"),
        ('--prompts.template.prefix={sweep: ["", "Do:"]}', "template.prefix: sweeps 2 prefixes of which 2 lack {task}"),
        ('--prompts.template.prefix={sweep: ["{task}:", "{task} "]}', "sweeps 2 prefixes of which 0 lack"),
        ("--prompts.seed={sweep: [0, 1]}", "prompts.seed: is swept, expected sweeps of prompts.template.prefix"),
        ("--interventions.added.strength={sweep: [1, 2]}", "interventions.added.strength: is swept"),
        ("--interventions.added.layers={together: all}", "interventions.added: has several cells at a layer"),
        ("--interventions={}", "interventions: is empty"),
        ("--metrics=[kl]", "metrics: lacks accuracy"),
        ("--decodability=null", "decodability: is null"),
        ("--model=/nowhere/at/all", "model.name: there is no folder"),
    ],
)
def test_what_prompting_cannot_mean_is_one_line_and_nothing_is_written(argument, told, tmp_path):
    must_refuse(ran("prompting.py", argument, "--out", tmp_path / "run"), told, tmp_path / "run")
