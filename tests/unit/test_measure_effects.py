"""Effects and curves against literal loops over rows, and their identities."""

from collections import defaultdict

import numpy as np
import polars as pl
import pytest

from patchboard.measure.cell_matrices import cell_matrices
from patchboard.measure.effects import curves, effects
from patchboard.measure.outcome_index import index_outcomes
from patchboard.measure.statistics import Bootstrap, interval
from patchboard.store.schema import CURVES, EFFECTS, OUTCOMES
from tests.unit import synthetic_run

BOOTSTRAP = Bootstrap(200, 0.9, 5)


@pytest.fixture(scope="module")
def ragged() -> pl.DataFrame:
    """Outcomes of uneven tasks and draws, with excluded queries, missing rows, and rows in no order."""
    rng = np.random.default_rng(0)
    rows = []
    for task, queries in (("AND", 17), ("OR", 4), ("XOR", 1)):
        for control, vectors in (("", ["own"]), ("random", ["r~0", "r~1", "r~2"][: 1 + queries % 3])):
            for vector in vectors:
                for layer in (0, 5):
                    for metric in ("accuracy", "kl"):
                        for strength in (None, 1, 3):  # swept for one intervention, absent for the other
                            for query in range(0, 3 * queries, 3):
                                clean, patched = rng.normal(size=2) ** 3
                                if rng.random() < 0.2:
                                    clean = patched = float("nan")
                                rows.append({
                                    "task": task, "query": query, "intervention": "a" if strength is None else "b",
                                    "control": control, "vector_task": vector, "op": "patch", "site": "resid_post",
                                    "layer": layer, "layers": str(layer), "head": -1, "position": "last",
                                    "strength": float(strength or 1), "shots": 4, "seed": 0, "metric": metric,
                                    "clean": clean, "patched": patched, "interventions.b.strength": strength,
                                })  # fmt: skip
    table = pl.DataFrame(rows, schema={**OUTCOMES, "interventions.b.strength": pl.Int64()})
    return table.filter(pl.Series(rng.random(len(table)) < 0.97)).sample(fraction=1, shuffle=True, seed=1)


def literal(outcomes: pl.DataFrame, keys: list[str]) -> dict:
    """cell -> (task, query) -> pairs, by plain loops."""
    cells: dict = defaultdict(lambda: defaultdict(list))
    for row in outcomes.iter_rows(named=True):
        pairs = cells[tuple(row[key] for key in keys)][row["task"], row["query"]]
        if not np.isnan(row["clean"]) and not np.isnan(row["patched"]):
            pairs.append((row["clean"], row["patched"]))
    return cells


@pytest.mark.parametrize("made", [effects, curves])
def test_equal_plain_loops(ragged, made):
    table = made(index_outcomes(ragged), BOOTSTRAP)
    keys = [column for column in table.columns if column in ragged.columns and column not in ("clean", "patched")]
    cells = literal(ragged, keys)
    assert len(cells) == len(table)
    for row in table.iter_rows(named=True):
        queries = cells[tuple(row[key] for key in keys)]
        means = [np.mean(pairs, axis=0) for pairs in queries.values() if pairs]
        assert row["n"] == len(means)
        expected = np.mean(means, axis=0) if means else np.array([np.nan, np.nan])
        np.testing.assert_allclose([row["clean"], row["patched"]], expected, rtol=1e-12)
        np.testing.assert_allclose(row["effect"], expected[1] - expected[0], rtol=1e-9, atol=1e-12)
        assert row["ci_low"] <= row["effect"] <= row["ci_high"] or row["n"] < 5


def test_intervals_are_those_of_the_queries_within_tasks(ragged):
    same = (pl.col("intervention") == "a", pl.col("control") == "random", pl.col("layer") == 5)
    kept = ragged.filter(*same, pl.col("metric") == "kl")
    row = curves(index_outcomes(kept), BOOTSTRAP).row(0, named=True)
    queries = sorted(literal(kept, [])[()].items())  # by task, then query
    values = [[np.mean([p - c for c, p in pairs]) if pairs else np.nan] for _, pairs in queries]
    tasks = [task for (task, _), _ in queries]
    low, high = interval(np.array(values), Bootstrap(200, 0.9, 5), strata=tasks)
    np.testing.assert_allclose([row["ci_low"], row["ci_high"]], [low[0], high[0]], rtol=1e-9)


def test_every_query_is_used_or_counted_as_excluded(ragged):
    table = effects(index_outcomes(ragged), BOOTSTRAP)
    asked = {task: ragged.filter(task=task)["query"].n_unique() for task in ("AND", "OR", "XOR")}
    for row in table.iter_rows(named=True):
        assert row["n"] + row["excluded"] <= asked[row["task"]]
        assert (row["n"] == 0) == np.isnan(row["effect"])
    assert table["excluded"].sum() > 0


def test_more_draws_are_not_more_queries():
    one_draw = synthetic_run.outcomes(queries=9, layers=1, draws=1).filter(control="random")
    again = one_draw.with_columns(pl.col("vector_task") + "again")
    both = index_outcomes(pl.concat([one_draw, again]))
    assert curves(both, BOOTSTRAP).equals(curves(index_outcomes(one_draw), BOOTSTRAP))


def test_order_of_rows_does_not_matter(ragged):
    order = list(CURVES) + ["interventions.b.strength"]
    one, other = curves(index_outcomes(ragged), BOOTSTRAP), curves(index_outcomes(ragged.reverse()), BOOTSTRAP)
    for column in order:
        left, right = (table.sort(order[:12] + order[-1:], nulls_last=True)[column] for table in (one, other))
        if left.dtype == pl.Float64:
            np.testing.assert_allclose(left.to_numpy(), right.to_numpy(), rtol=1e-9)
        else:
            assert left.equals(right)


def test_what_is_measured_beside_a_cell_does_not_change_it(ragged):
    alone = curves(index_outcomes(ragged.filter(metric="kl", intervention="a")), BOOTSTRAP)
    beside = curves(index_outcomes(ragged), BOOTSTRAP).filter(metric="kl", intervention="a")
    order = ["control", "layer"]
    np.testing.assert_allclose(
        alone.sort(order).select("effect", "ci_low", "ci_high").to_numpy(),
        beside.sort(order).select("effect", "ci_low", "ci_high").to_numpy(),
        rtol=1e-9,
    )


def test_one_sided_gaps_leave_the_pair_out(ragged):
    first = ragged.filter(pl.col("patched").is_not_nan()).head(1)
    second = first.with_columns(patched=pl.lit(float("nan")), query=pl.col("query") + 1)
    (row,) = effects(index_outcomes(pl.concat([first, second])), BOOTSTRAP).to_dicts()
    assert (row["n"], row["excluded"], row["clean"]) == (1, 1, first["clean"][0])


def test_columns_and_types_stand_in_the_schema(ragged):
    for made, schema in ((effects, EFFECTS), (curves, CURVES)):
        for table in (ragged, ragged.clear()):
            kinds = made(index_outcomes(table), BOOTSTRAP).schema
            assert dict(kinds) == {**schema, "interventions.b.strength": pl.Int64()}


def test_finds_the_planted_layer_and_nothing_in_the_self_control():
    table = synthetic_run.outcomes()
    made = curves(index_outcomes(table.filter(metric="accuracy")), synthetic_run.BOOTSTRAP)
    at_zero = made.filter(intervention="positive", control="", shots=0)
    assert at_zero.sort("effect")["layer"][-1] == synthetic_run.BEST
    assert at_zero.filter(layer=synthetic_run.BEST)["ci_low"][0] > 0.2
    none = made.filter(control="self")
    assert (none["ci_low"] == 0).all() and (none["ci_high"] == 0).all() and len(none) == 64


def test_blocks_hold_every_row_once(ragged):
    filled = sum(
        (~np.isnan(block.values(task, slice(0, len(block.cells)))[0])).sum()
        for block in cell_matrices(index_outcomes(ragged), pooled=False)
        for task in block.queries
    )
    assert filled == ragged.filter(pl.col("clean").is_not_nan()).height
