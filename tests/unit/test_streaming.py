"""What is computed piece by piece equals what is computed from the whole table, however small the pieces."""

from __future__ import annotations

import zlib

import numpy as np
import polars as pl
import pytest

from patchboard.engine.load import open_model
from patchboard.errors import ModelError
from patchboard.measure import cell_matrices, outcome_index, statistics
from patchboard.measure.effects import curves, effects
from patchboard.measure.outcome_index import index_outcomes
from patchboard.measure.outcomes import outcome_rows, outcome_schema, scored_metrics
from patchboard.measure.scored_group import gather_scores
from patchboard.measure.self_checks import Checks
from patchboard.measure.statistics import Bootstrap
from patchboard.measure.summary import summarise
from patchboard.plan.build import build_plans
from patchboard.plan.cells import OWN_STATE
from patchboard.plan.model import Group
from patchboard.spec import study_of
from patchboard.store import tables
from patchboard.store.schema import OUTCOMES
from patchboard.store.states import StateFile
from patchboard.store.tables import growing_table
from tests.conftest import small_tree_of
from tests.unit import synthetic_run

BOOTSTRAP = Bootstrap(120, 0.9, 3)
NAMES = [name for name in OUTCOMES if name not in ("query", "clean", "patched")]


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """Uneven tasks, random draws, a swept field, excluded queries, and some rows missing."""
    made = synthetic_run.outcomes(queries=23, layers=3, draws=2)
    rng = np.random.default_rng(0)
    kept = (rng.random(len(made)) < 0.95) & ((made["task"] != "NOR") | (made["query"] < 5)).to_numpy()
    return made.filter(pl.Series(kept))


def bound(monkeypatch, small: int) -> None:
    """Hold as little as possible, everywhere."""
    monkeypatch.setattr(outcome_index, "_ROWS_AT_ONCE", 7 * small)
    monkeypatch.setattr(outcome_index, "_VALUES_AT_ONCE", 11 * small)
    monkeypatch.setattr(outcome_index, "_WORTH_READING", small)
    monkeypatch.setattr(cell_matrices, "_VALUES_AT_ONCE", 30 * small)
    monkeypatch.setattr(statistics, "_COUNTS_KEPT", 0)
    monkeypatch.setattr(statistics, "_COUNTS_AT_ONCE", 500 * small)
    monkeypatch.setattr(statistics, "_FLOATS_AT_ONCE", 300 * small)


def whole(outcomes: pl.DataFrame, pooled: bool) -> dict[tuple, list[float]]:
    """Cell -> clean, patched, effect, low, high, n, excluded: all queries x all cells, all resamples, at once."""
    keys = [*(n for n in NAMES if not (pooled and n in ("task", "vector_task"))), "prompts.shots"]
    same = ["shots", "seed", "prompts.shots"] + ([] if pooled else ["task"])
    found = {}
    for _, block in outcomes.group_by(same, maintain_order=True):
        rows = block.select("task", "query").unique().sort("task", "query")
        tasks = rows["task"].to_numpy()
        counts = np.zeros((BOOTSTRAP.resamples, len(rows)))
        for task in dict.fromkeys(tasks):
            rng, n = np.random.default_rng([BOOTSTRAP.seed, zlib.crc32(task.encode())]), int((tasks == task).sum())
            counts[:, tasks == task] = rng.multinomial(n, np.full(n, 1 / n), size=BOOTSTRAP.resamples)
        for key, cell in block.group_by(keys):
            used = cell.filter(pl.col("clean").is_not_nan(), pl.col("patched").is_not_nan())
            means = used.group_by("task", "query").agg(pl.col("clean", "patched").mean())
            clean, patched = (
                rows.join(means, on=["task", "query"], how="left", maintain_order="left")[name].fill_null(np.nan)
                .to_numpy() for name in ("clean", "patched")
            )  # fmt: skip
            kept = ~np.isnan(clean)
            difference = (patched - clean)[kept]
            weights = counts[:, kept]
            drew = weights.sum(axis=1) > 0
            replicates = weights[drew] @ difference / weights[drew].sum(axis=1)
            low, high = np.quantile(replicates, [0.05, 0.95]) if drew.any() else (np.nan, np.nan)
            values = [clean[kept].mean(), patched[kept].mean(), difference.mean()] if kept.any() else [np.nan] * 3
            found[key] = [*values, low, high, kept.sum(), len(rows) - kept.sum()]
    return found


@pytest.mark.parametrize("small", [pytest.param(1, marks=pytest.mark.slow), 40, 10**6])
@pytest.mark.parametrize("pooled", [False, True])
def test_streamed_from_a_file_equals_the_whole_table_at_once(table, tmp_path, monkeypatch, small, pooled):
    bound(monkeypatch, small)
    shuffled = table.sample(fraction=1, shuffle=True, seed=2) if small == 40 else table
    few = shuffled.filter(pl.col("intervention") == "added", pl.col("metric").is_in(["logprob", "conversion"]))
    few.write_parquet(tmp_path / "outcomes.parquet", row_group_size=100)
    outcomes = index_outcomes(pl.scan_parquet(tmp_path / "outcomes.parquet"))
    made = (curves if pooled else effects)(outcomes, BOOTSTRAP)
    expected = whole(few, pooled)
    keys = [*(n for n in NAMES if n in made.columns), "prompts.shots"]
    values = ["clean", "patched", "effect", "ci_low", "ci_high", "n", "excluded"]
    assert len(made) == len(expected) > 10
    for key, row in zip(made.select(keys).iter_rows(), made.select(values).iter_rows(), strict=True):
        np.testing.assert_allclose(row, expected[key], rtol=1e-12, atol=1e-12)


def test_the_summary_does_not_depend_on_the_size_of_pieces(table, tmp_path, monkeypatch):
    cd = synthetic_run.decodability(points=12)
    at_once = summarise(index_outcomes(table), cd, "accuracy", BOOTSTRAP)
    bound(monkeypatch, 40)
    table.write_parquet(tmp_path / "outcomes.parquet", row_group_size=1000)
    streamed = summarise(index_outcomes(pl.scan_parquet(tmp_path / "outcomes.parquet")), cd, "accuracy", BOOTSTRAP)

    def compare(one, other) -> None:
        if isinstance(one, dict):
            assert list(one) == list(other)
            for key in one:
                compare(one[key], other[key])
        elif isinstance(one, list):
            for a, b in zip(one, other, strict=True):
                compare(a, b)
        else:
            assert one == (pytest.approx(other, rel=1e-12, abs=1e-12) if isinstance(one, float) else other)

    compare(at_once, streamed)


@pytest.mark.parametrize("odd", [False, True])
def test_a_selection_is_the_filtered_tables_scan(table, odd):
    wanted = (pl.col("metric") == "kl", pl.col("control") != "self")
    one = index_outcomes(table).where(*wanted).where(odd=odd)
    other = index_outcomes(table.filter(*wanted, pl.col("query") % 2 == int(odd)))
    assert one.cells.equals(other.cells)
    assert all(a.tolist() == b.tolist() for a, b in zip(one.queries, other.queries, strict=True))
    assert effects(one, BOOTSTRAP).equals(effects(other, BOOTSTRAP))


@pytest.mark.slow
def test_the_index_is_no_longer_than_the_cells(monkeypatch):
    """10,000 queries of 1,000 cells: one list of 10,000, not 1,000 of them; and one run of rows a cell."""
    monkeypatch.setattr(outcome_index, "_ROWS_AT_ONCE", 7)
    full = index_outcomes(synthetic_run.outcomes(queries=9, layers=2))
    assert len(full.runs) == len(full.cells) == len(full.queries) > 400
    assert len({id(each) for each in full.queries}) == 1


# a group's scores


@pytest.fixture(scope="module")
def groups(llama_folder) -> tuple[Group, ...]:
    (plan,) = build_plans(study_of(small_tree_of(llama_folder)), open_model)
    return plan.groups


def scores(group: Group, seed: int = 0) -> pl.DataFrame:
    """Random values of most pairs of query and copy, in random order; the clean run of all."""
    rng = np.random.default_rng(seed)
    pairs = [
        (q, c) for q in range(len(group.prompts)) for c in range(len(group.copies)) if c == 0 or rng.random() < 0.9
    ]
    made = {name: rng.normal(size=len(pairs)) for name in ("moved", *scored_metrics(group.metrics))}
    idle = rng.random(len(group.copies)) < 0.2
    made["moved"][idle[[copy for _, copy in pairs]]] = 0.0
    made["accuracy"] = (rng.random(len(pairs)) < 0.5).astype(float)
    rows = pl.DataFrame({**dict(zip(("query", "copy"), zip(*pairs, strict=True), strict=True)), **made})
    return rows.sample(fraction=1, shuffle=True, seed=seed)


def taken(groups, tables) -> tuple[pl.DataFrame, Checks]:
    checks, schema, pieces = Checks(BOOTSTRAP), outcome_schema(groups), []
    for group, values in zip(groups, tables, strict=True):
        scored = gather_scores(group, values.iter_slices(13))
        checks.update(scored)
        pieces += outcome_rows(scored, schema)
    return pl.concat(pieces), checks


def test_rows_and_checks_equal_plain_look_ups(groups):
    group, values = groups[0], scores(groups[0])
    rows, checks = taken([group], [values])
    at = {(row["query"], row["copy"]): row for row in values.iter_rows(named=True)}
    assert rows.columns == [*OUTCOMES, "prompts.shots", "interventions.added.strength"]
    found = rows.iter_rows(named=True)
    for use in group.uses:
        for metric in [*group.metrics, *(["conversion"] if use.cell.converts_to else [])]:
            for query, prompt in enumerate(group.prompts):
                row = next(found)
                copies, name = (0, use.patched), metric
                if metric == "conversion":
                    copies, name = (use.clean_converted, use.converted), "accuracy"
                clean, patched = (at.get((query, copy), {}).get(name) for copy in copies)
                other = prompt.alternatives.get(use.cell.converts_to, prompt.answer_ids)
                known = None not in (clean, patched) and (metric != "conversion" or other != prompt.answer_ids)
                assert (row["metric"], row["query"], row["task"]) == (metric, query, group.task)
                assert (row["intervention"], row["layer"]) == (use.cell.intervention, use.cell.row["layer"])
                expected = (clean, patched) if known else (np.nan, np.nan)
                np.testing.assert_array_equal((row["clean"], row["patched"]), expected)
    assert next(found, None) is None

    own = [c for c, copy in enumerate(group.copies) if copy.edits and {e.operand for e in copy.edits} == {OWN_STATE}]
    pairs = [(at[q, c], at[q, 0]) for q in range(len(group.prompts)) for c in own if (q, c) in at]
    assert len(own) > 5 and len(pairs) > 20
    assert checks.flips.rate == np.mean([a["accuracy"] != b["accuracy"] for a, b in pairs])
    assert checks.noise_floor.floor["logprob"] == max(abs(a["logprob"] - b["logprob"]) for a, b in pairs)


def test_an_overflow_is_left_out_of_every_cell_and_counted_once(groups):
    group = groups[0]
    lost = next(use for use in group.uses if use.cell.control == "" and use.cell.intervention == "positive")
    values = scores(group).with_columns(
        logprob=pl.when(pl.col("copy") == lost.patched).then(float("nan")).otherwise("logprob")
    )
    rows, checks = taken([group], [values])
    count = len(values.filter(copy=lost.patched))
    (told,) = (note for note in checks.overflow.notes() if note.startswith("positive"))
    assert f"layer {lost.cell.row['layer']}: {count} are left out" in told
    gone = rows.filter(intervention="positive", control="", layer=lost.cell.row["layer"])
    assert gone["patched"].is_nan().all()
    broken = values.with_columns(logprob=pl.when(pl.col("copy") == 0).then(float("nan")).otherwise("logprob"))
    with pytest.raises(ModelError, match="clean log-probabilities of"):
        taken([group], [broken])


# files that grow


@pytest.mark.parametrize("at_once", [1, 1 << 25])
def test_a_table_written_in_pieces_is_the_table(table, tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(tables, "_BYTES_AT_ONCE", at_once)
    with growing_table(tmp_path / "t.parquet", table.schema) as append:
        for start in range(0, 3000, 1000):
            append(table[start : start + 1000])
    assert pl.read_parquet(tmp_path / "t.parquet").equals(table[:3000])
    assert pl.read_parquet_schema(tmp_path / "t.parquet") == table.schema
    assert pl.read_parquet_metadata(tmp_path / "t.parquet")["patchboard"] == "1"
    with growing_table(tmp_path / "empty.parquet", table.schema):
        pass
    assert pl.read_parquet(tmp_path / "empty.parquet").equals(table.clear())


def test_states_come_back_by_layer_and_shots(tmp_path):
    states = np.random.default_rng(0).normal(size=(11, 3, 2, 5)).astype(np.float32)
    with StateFile(tmp_path / "parts") as kept:
        for start, stop in ((0, 4), (4, 5), (5, 11)):
            kept.add(states[start:stop])
        assert kept.shape == (3, 2, 5)
        for layer in range(3):
            for shots in range(2):
                np.testing.assert_array_equal(kept.at(layer, shots), states[:, layer, shots])
        assert list((tmp_path / "parts").iterdir()) == [], "a killed process leaves nothing"
