"""The head experiment: every number of its tables by a loop over outcomes, its choices, what it cannot mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from patchboard.execution.plan_numbers import costs_of
from patchboard.execution.planned import plan_study
from patchboard.experiment.frame import folder_of_variant
from patchboard.experiments.heads.findings import findings
from patchboard.experiments.heads.vectors import conditions, vector_study
from patchboard.measure.head_effects import DRAWS, best_heads, head_effects, random_heads
from patchboard.measure.outcome_index import index_outcomes
from patchboard.measure.statistics import Bootstrap, interval
from patchboard.spec import Study, load_study, parse_overrides
from patchboard.store.folder import open_run
from patchboard.store.schema import OUTCOMES
from tests.models import random_model, save
from tests.scripts import must_refuse, ran

ROOT = Path(__file__).parents[2]
BOOTSTRAP = Bootstrap(200, 0.95, 0)
TASKS = ("AND", "XOR")
SMALL = (
    "--tasks.bits=4", "--tasks.only=[AND, XOR]", "--statistics.bootstrap=200", "--prompts.shots=2",
    "--prompts.queries=5", "--interventions.heads.vector.prompts=4", "--interventions.heads.vector.shots=2",
    "--interventions.heads.layers=[1, 3]", "--metrics=[logprob, probability]", "--top=1,3", "--wandb=off",
)  # fmt: skip


def script(*arguments: object) -> tuple[int, str, str]:
    """(status, output, errors)"""
    return ran("heads.py", *arguments)


def times(folder: Path) -> dict[Path, int]:
    return {each: each.stat().st_mtime_ns for each in folder.rglob("*") if each.is_file()}


def chosen(rows: pl.DataFrame, odd: bool, **at: Any) -> list[dict[str, Any]]:
    """Rows of odd (even) queries at a cell, one by one."""
    return [r for r in rows.to_dicts() if r["query"] % 2 == odd and all(r[name] == value for name, value in at.items())]


def change(rows: list[dict[str, Any]]) -> float:
    return sum(row["patched"] - row["clean"] for row in rows) / len(rows)


@pytest.mark.slow
def test_a_gpt2_folder_from_end_to_end(tmp_path, monkeypatch):
    """Interrupted after the second run, resumed without computing it again, shown without writing anything."""
    out = tmp_path / "run"
    asked = ("--model", save(random_model("gpt2"), tmp_path / "model"), *SMALL, "--out", out)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("patchboard.experiments.heads.experiment.conditions", interrupted)
        status, _, error = script(*asked)
    assert status == 130 and "resumes" in error
    second = out / "experiment" / "experiment"
    before = times(second)
    status, told, error = script(*asked)
    assert (status, error) == (0, "") and str(out / "experiment" / "report.html") in told
    assert times(second) == before
    before = times(out)
    assert script(*asked) == (0, told, "") and times(out) == before

    status, other, error = script(*asked, "--top=2")  # another size: a second run of its own, the rest as it was
    assert (status, error) == (0, "") and str(out / "experiment-top-2" / "report.html") in other
    after = times(out)
    assert before.items() <= after.items() and (out / "experiment-top-2" / "experiment" / "summary.json") in after
    assert script(*asked, "--top=2") == (0, other, "") and times(out) == after
    assert script(*asked) == (0, told, "") and times(out) == after

    check_effects(pl.read_parquet(out / "experiment" / "heads.parquet"), pl.read_parquet(out / "outcomes.parquet"))
    effects = pl.read_parquet(out / "experiment" / "heads.parquet")
    outcomes = pl.read_parquet(second / "outcomes.parquet")
    check_vectors(pl.read_parquet(out / "experiment" / "vectors.parquet"), outcomes, "accuracy")
    check_vectors(pl.read_parquet(out / "experiment" / "logprobs.parquet"), outcomes, "logprob")
    check_heads(effects, (second / "spec.yaml").read_text())
    asked_first = pl.read_parquet(out / "prompts.parquet").filter(role="fit")["token_ids"].to_list()
    assert asked_first == pl.read_parquet(second / "prompts.parquet").filter(role="fit")["token_ids"].to_list()

    status, told, error = script(*asked, "--top=2", "--fresh")
    assert (status, error) == (0, "") and "with the function vector of 2 heads" in told
    assert set(pl.read_parquet(out / "experiment" / "vectors.parquet")["heads"].drop_nulls()) == {2}


def check_effects(table: pl.DataFrame, outcomes: pl.DataFrame) -> None:
    """EFFECTS by loops: mean changes of even and of odd queries, of the control, ranks by the first metric."""
    assert table.height == 2 * 2 * 4 and table["metric"].to_list() == ["logprob"] * 8 + ["probability"] * 8
    for row in table.to_dicts():
        at = {name: row[name] for name in ("metric", "layer", "head")}
        odd = chosen(outcomes, odd=True, control="", **at)
        assert row["chosen"] == pytest.approx(change(chosen(outcomes, odd=False, control="", **at)))
        assert (row["effect"], row["n"]) == (pytest.approx(change(odd)), len(odd)) and len(odd) == 2 * 2
        assert row["clean"] == pytest.approx(sum(r["clean"] for r in odd) / len(odd))
        assert row["random"] == pytest.approx(change(chosen(outcomes, odd=True, control="random", **at)))
        assert row["ci_low"] <= row["effect"] <= row["ci_high"] and row["random_low"] <= row["random_high"]
    first = table.filter(metric="logprob")
    assert first["rank"].to_list() == list(range(1, 9)) and first["chosen"].is_sorted(descending=True)
    ranks = [{(r["layer"], r["head"]): r["rank"] for r in part.to_dicts()} for part in table.partition_by("metric")]
    assert ranks[0] == ranks[1], "ranked by the first metric alone"
    assert first["effect"].abs().to_numpy().max() > 1e-3


def check_vectors(table: pl.DataFrame, outcomes: pl.DataFrame, metric: str) -> None:
    """CONDITIONS by loops: the layer of the best even queries, the metric and its change of the odd ones."""
    names = {("top heads", n): [f"top-{n}"] for n in (1, 3)}
    names |= {("random heads", n): [f"random-{n}-{draw}" for draw in range(DRAWS)] for n in (1, 3)}
    names |= {("random vector", n): [f"top-{n}"] for n in (1, 3)}
    names |= {("mean added", None): ["mean-added"], ("mean patched", None): ["mean-patched"]}
    assert set(zip(table["condition"], table["heads"], strict=True)) == {("no vector", None), *names}
    assert table.height == (1 + len(names)) * 3
    measured = outcomes.filter(metric=metric)
    for row in table.filter(pl.col("condition") != "no vector").to_dicts():
        mine = names[row["condition"], row["heads"]]
        best = [
            max((1, 3), key=lambda at, n=name: change(chosen(measured, False, intervention=n, control="", layer=at)))
            for name in mine
        ]
        assert row["layers"] == best
        control = "random" if row["condition"] == "random vector" else ""
        tasks = TASKS if row["task"] == "ALL" else (row["task"],)
        values = {
            (task, query): [
                r
                for name, at in zip(mine, best, strict=True)
                for r in chosen(measured, True, intervention=name, control=control, layer=at, task=task, query=query)
            ]
            for task in tasks
            for query in (1, 3)
        }
        assert all(len(found) == len(mine) for found in values.values()) and row["n"] == len(values)
        means = np.array([sum(r["patched"] for r in found) / len(found) for found in values.values()])
        assert (row[metric], row["effect"]) == pytest.approx((means.mean(), np.mean([*map(change, values.values())])))
        low, high = interval(means[:, None], BOOTSTRAP, [task for task, _ in values])
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((low[0], high[0]))
    without = table.filter(condition="no vector", task="ALL").to_dicts()[0]
    clean = chosen(measured, True, intervention="mean-added", control="", layer=1)
    assert without[metric] == pytest.approx(sum(r["clean"] for r in clean) / len(clean))


def check_heads(effects: pl.DataFrame, spec: str) -> None:
    """The second run sums the heads of the first ranks, and random ones that are none of them."""
    from patchboard.spec import load_study

    sections = load_study(spec).tree["interventions"]
    ranked = effects.filter(metric="logprob").sort("rank")
    first = [list(pair) for pair in zip(ranked["layer"], ranked["head"], strict=True)]
    for count in (1, 3):
        assert sections[f"top-{count}"]["vector"]["heads"] == first[:count]
        drawn = [sections[f"random-{count}-{draw}"]["vector"]["heads"] for draw in range(DRAWS)]
        assert all(len(heads) == count and not any(pair in first[:3] for pair in heads) for heads in drawn)
    assert sections["mean-added"]["vector"]["difference"] == ["same_task", "all_tasks"]
    assert {section["op"] for section in sections.values()} == {"add", "patch"}


def outcome_rows(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """A table of OUTCOMES with these fields set."""
    usual = {
        "task": "A", "vector_task": "A", "op": "patch", "site": "head", "position": "last", "strength": 1.0,
        "shots": 0, "seed": 0, "control": "", "clean": 0.0, "head": -1,
    }  # fmt: skip
    full = [{**usual, **row, "layers": str(row["layer"])} for row in rows]
    return pl.DataFrame([{name: row[name] for name in OUTCOMES} for row in full], schema=OUTCOMES)


def test_heads_that_even_queries_choose_are_judged_by_odd_ones():
    """Head 1.0 gains on even queries and loses on odd ones, 0.1 the other way round; equals go by layer and head."""
    gains = {(0, 0): (0.0, 0.0), (0, 1): (-0.5, 0.75), (1, 0): (1.0, -0.25), (1, 1): (0.0, 0.5)}
    rows = [
        {
            "intervention": "heads",
            "metric": "probability",
            "layer": layer,
            "head": head,
            "query": q,
            "patched": of[q % 2],
        }
        for (layer, head), of in gains.items()
        for q in range(6)
    ]
    table = head_effects(index_outcomes(outcome_rows(rows).lazy()), "probability", BOOTSTRAP)
    assert best_heads(table, 4) == [(1, 0), (0, 0), (1, 1), (0, 1)]
    assert dict(zip(table["rank"], table["effect"], strict=True)) == {1: -0.25, 2: 0.0, 3: 0.5, 4: 0.75}
    assert table["chosen"].to_list() == [1.0, 0.0, 0.0, -0.5] and table["random"].null_count() == 4
    for seed in range(20):
        others = random_heads(table, [(1, 0)], 2, seed)
        assert all(len(set(heads)) == 2 and (1, 0) not in heads for heads in others)
        assert len({tuple(heads) for heads in others}) == DRAWS == 3, "all pairs of three heads"
        assert others == random_heads(table, [(1, 0)], 2, seed)
    assert random_heads(table, [(1, 0)], 3, 0) == [[(0, 0), (0, 1), (1, 1)]] * DRAWS, "where there is one set only"


def test_layers_that_even_queries_choose_are_judged_by_odd_ones():
    """Layer 2 gains on even queries alone; a loss, however large, is no reason to choose a layer. Another metric of the
    same run has layers of its own."""
    gains = {2: (0.5, 0.0), 4: (0.25, 0.375), 5: (-1.0, -1.0)}
    names = ["top-1", *(f"random-1-{draw}" for draw in range(DRAWS)), "mean-added", "mean-patched"]
    rows = [
        {"intervention": name, "metric": "accuracy", "control": control, "layer": layer, "query": q,
         "clean": 0.5, "patched": 0.5 + (of[q % 2] if not control else -0.125)}
        for name in names
        for control in ("", "random")
        for layer, of in gains.items()
        for q in range(4)
    ]  # fmt: skip
    nats = [
        {**row, "metric": "logprob", "clean": -9.0, "patched": -9.0 + (row["layer"] == 4) * (not row["control"])}
        for row in rows
    ]
    outcomes = outcome_rows([*rows, *nats]).lazy()
    table = conditions(outcomes, [1], BOOTSTRAP).filter(task="ALL")
    by_nats = conditions(outcomes, [1], BOOTSTRAP, "logprob").filter(task="ALL", condition="top heads").to_dicts()[0]
    assert (by_nats["layers"], by_nats["logprob"], by_nats["effect"]) == ([4], -8.0, 1.0)
    assert conditions(outcome_rows(rows).lazy(), [1], BOOTSTRAP, "logprob").is_empty(), "a run without that metric"
    found = {(r["condition"]): (r["layers"], r["accuracy"], r["effect"]) for r in table.to_dicts()}
    assert found["no vector"] == ([], 0.5, 0.0)
    assert found["top heads"] == found["mean added"] == ([2], 0.5, 0.0)
    assert found["random heads"] == ([2] * DRAWS, 0.5, 0.0)
    assert found["random vector"] == ([2], 0.375, -0.125)


def test_it_says_so_where_prompts_tell_the_task_all_the_same():
    head = {"metric": "probability", "rank": 1, "layer": 2, "head": 1, "effect": 0.1, "ci_low": 0, "ci_high": 0.2}
    row = {"task": "ALL", "accuracy": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    named = [("no vector", None), ("top heads", 1), ("random heads", 1), ("mean added", None), ("mean patched", None)]
    for clean, warns in ((0.97, True), (0.07, False)):
        summary = {
            "metric": "probability", "heads": [{**head, "clean": clean, "random": None}], "top": [1], "patched": 4,
            "above_zero": 2, "random_above_zero": 0,
            "vectors": [{**row, "condition": condition, "heads": heads} for condition, heads in named],
            "logprobs": [],
        }  # fmt: skip
        assert any("tell their task all the same" in sentence for sentence in findings(summary)) == warns


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--prompts.labels=own", "prompts.labels: are the demonstrations' own"),
        ("--prompts.seed={sweep: [0, 1]}", "prompts.seed: is swept, expected one setting"),
        ("--interventions.heads.vector.mean=AND", "interventions.heads: is not there as a patch at site head"),
        ("--interventions.heads.layers={together: all}", "interventions.heads.layers: edits several layers"),
        ("--metrics=[kl]", "metrics[0]: is kl, by which heads cannot be ranked"),
        ("--prompts.queries=1", "prompts.queries: 1 query cannot be halved"),
        ("--top=1,13", "--top: asks for 13 heads of the 24 that are patched"),
        ("--top=2,1", "argument --top: found '2,1', expected numbers above 0, each more than the one before"),
        ("--top=0", "argument --top: found '0', expected numbers above 0"),
        ("--top=two", "argument --top: found 'two', expected whole numbers as in 1,2,4"),
        ("--layers=9", "there is no layer 9, the model has 6"),
        ("--prompts.shots=1", "prompts.labels: shuffled needs at least 2 demonstrations"),
    ],
)
def test_what_it_cannot_mean_is_one_line_and_nothing_is_written(argument, says, tmp_path):
    must_refuse(script(argument, "--out", tmp_path / "run"), says, tmp_path / "run")


def test_a_family_without_heads(tmp_path):
    status, _, error = script("--model", save(random_model("mamba2"), tmp_path / "model"), "--out", tmp_path / "run")
    assert status == 2 and error.count("\n") == 1
    assert "interventions.heads.site: there are no attention heads in family 'mamba2'" in error
    assert not (tmp_path / "run").exists()


def test_the_plan_has_the_second_run_too_whichever_heads_are_the_best(tmp_path):
    """Its counts are those of the study that a ranking gives, and of the best and the random heads of each size."""
    asked = (*SMALL, "--plan", "--out", tmp_path / "run")
    status, text, _ = script(*asked, "--json")
    (planned,) = json.loads(text)["following"]
    (model,) = planned["models"]
    layers, functions, others = 2, 2 * (1 + DRAWS), 2  # a function vector of each size and its random ones; means
    assert status == 0 and not (tmp_path / "run").exists()
    assert [group["cells"] for group in model["groups"]] == [layers * (functions + others) * 3] * len(TASKS)
    study = prepared_study()
    costs = []
    for order in (sorted, lambda heads: sorted(heads, reverse=True)):
        heads = order((layer, head) for layer in (1, 3) for head in range(4))
        ranks = pl.DataFrame(heads, schema=["layer", "head"], orient="row").with_row_index("rank", offset=1)
        costs.append(costs_of(plan_study(vector_study(study, ranks, (1, 3))), "auto", remote=False)[0].as_dict())
    assert costs[0] == costs[1] == model["cost"]
    status, text, _ = script(*asked)
    assert status == 0 and "heads-vectors, after heads, which decides its cells" in text and "heads, digest" in text


def prepared_study() -> Study:
    """The script's own study with SMALL's values."""
    overrides = parse_overrides([each for each in SMALL if not each.startswith(("--top", "--wandb"))])
    return load_study(ROOT / "experiments" / "specs" / "heads.yaml", overrides)


def test_other_sizes_have_a_folder_of_their_own_beside_the_first(tmp_path):
    with open_run(tmp_path, "r" * 8) as run:
        run.write_text("spec.yaml", "name: x\n")
    first = tmp_path / "experiment"
    assert folder_of_variant(tmp_path, "a" * 8, {"top": [1, 2]}) == first
    with open_run(first, "a" * 8):
        pass
    assert folder_of_variant(tmp_path, "a" * 8, {"top": [1, 2]}) == first
    other = folder_of_variant(tmp_path, "b" * 8, {"top": [1, 5]})
    assert other == tmp_path / "experiment-top-1-5"
    with open_run(other, "b" * 8):
        pass
    with open_run(tmp_path, "r" * 8, fresh=True):
        assert {path.name for path in tmp_path.iterdir()} == {"manifest.json", ".lock"}, "--fresh takes both"


def test_prompts_without_demonstrations_may_keep_their_labels(tmp_path):
    plan = script("--prompts.shots=0", "--prompts.labels=own", "--plan", "--json", "--out", tmp_path / "run")
    assert plan[0] == 0 and json.loads(plan[1])["models"][0]["groups"][0]["cells"] == 24 * 3
    assert not (tmp_path / "run").exists()
