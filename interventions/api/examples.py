"""Single prompts with what an edit did to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from patchboard.engine.load import open_model
from patchboard.errors import RunFolderError, SpecError
from patchboard.measure.outcomes import plain
from patchboard.plan.cells import Cell
from patchboard.plan.model import Counterfactual, Group, ModelPlan
from patchboard.plan.suffix import suffix_of
from patchboard.registry import suggest
from patchboard.store.schema import CELL, OUTCOMES, swept_of

_COLUMNS = ("task", "query", "intervention", "control", "vector_task", "layers", "head", "shots", "strength")
_ORDERS = ("effect", "random")


@dataclass(frozen=True)
class Wanted:
    """Which cells' outcomes; None stands for all."""

    intervention: str | None
    layer: int | None
    task: str | None
    control: str
    shots: int | None
    head: int | None
    metric: str


def examples_of(
    outcomes: pl.DataFrame, plans: Callable[[], Sequence[ModelPlan]], wanted: Wanted, n: int, order: str, seed: int
) -> pl.DataFrame:
    """The table that ``Run.examples`` describes. plans: makes the run's plans again, once what is wanted is known."""
    if order not in _ORDERS:
        raise SpecError("examples(order)", f"unknown order {order!r}", suggest(str(order), _ORDERS))
    if n < 1:
        raise SpecError("examples(n)", f"found {n}, expected a whole number ≥ 1", "give how many")
    rows = _wanted_rows(outcomes, wanted).filter(pl.col("patched").is_not_nan())
    rows = rows.with_columns(effect=pl.col("patched") - pl.col("clean"))
    if order == "effect":
        chosen = rows.sort(pl.col("effect").abs(), descending=True, maintain_order=True).head(n)
    else:
        chosen = rows.sample(min(n, len(rows)), seed=seed, shuffle=True)
    swept = swept_of(outcomes.columns)
    edited = pl.DataFrame(
        list(_edited(plans(), chosen, swept)),
        schema={
            "text": pl.String(), "edited_at": pl.List(pl.Int64()), "edited": pl.List(pl.String()), "answer": pl.String()
        },
        orient="row",
    )  # fmt: skip
    values = chosen.select("metric", "clean", "patched", "effect")
    return pl.concat([chosen.select(*_COLUMNS, *swept), edited, values], how="horizontal")


def _wanted_rows(outcomes: pl.DataFrame, wanted: Wanted) -> pl.DataFrame:
    """The outcomes of the wanted cells. Raises SpecError at the first wish that leaves none."""
    rows = outcomes
    wishes = {
        "intervention": wanted.intervention, "control": wanted.control, "task": wanted.task, "layer": wanted.layer,
        "head": wanted.head, "shots": wanted.shots, "metric": wanted.metric,
    }  # fmt: skip
    for column, value in wishes.items():
        if value is None:
            continue
        some = rows.filter(pl.col(column) == value) if _fits(value, column) else rows.clear()
        if some.is_empty():
            there = filter(None, map(str, rows[column].unique().drop_nulls().to_list()))
            what = f"the run has no {column} {value!r}{' there' if len(rows) < len(outcomes) else ''}"
            raise SpecError(f"examples({column})", what, suggest(str(value), there))
        rows = some
    return rows


def _fits(value: object, column: str) -> bool:
    """Whether the value can be one of the column's: polars compares no text with numbers."""
    return isinstance(value, str) == (OUTCOMES[column] == pl.String())


def _edited(plans: Sequence[ModelPlan], rows: pl.DataFrame, swept: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """For each row the prompt's text, indices and texts of its edited tokens, and its answer."""
    cells = {key: cell for plan in plans for key, cell in _cells_of(plan, swept)}
    tokenizers = {id(plan): open_model(plan.section)[0] for plan in plans}
    for row in rows.iter_rows(named=True):
        plan, group, cell = cells[_key(row, swept)]
        prompt = group.prompts[row["query"]]
        suffix = suffix_of(prompt, Counterfactual(cell.edits))
        assert suffix is not None, "a measured query has a suffix"
        at = sorted({index for _, indices in suffix.edited for index in indices})
        texts = [tokenizers[id(plan)].decode([suffix.tokens[index]]) for index in at]
        yield prompt.text, at, texts, prompt.answer


def _cells_of(plan: ModelPlan, swept: Sequence[str]) -> Iterator[tuple[Any, tuple[ModelPlan, Group, Cell]]]:
    """Each cell under what names it in a row of outcomes.parquet."""
    for group in plan.groups:
        for use in group.uses:
            fields = {path: plain(value) for path, value in use.cell.swept}
            named = {**use.cell.row, "task": group.task, "shots": group.shots, "seed": group.seed, **fields}
            yield _key(named, swept), (plan, group, use.cell)


def _key(row: Mapping[str, Any], swept: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("task", *CELL, *swept))


def check_same_prompts(plans: Sequence[ModelPlan], prompts: pl.DataFrame, where: str) -> None:
    """Raises RunFolderError where the plan's evaluated prompts are no longer the ones that were run."""
    were = prompts.filter(pl.col("role").is_in(["evaluate", "unrelated"])).select("task", "query", "token_ids")
    now = [
        (group.task, i, list(prompt.token_ids))
        for plan in plans for group in plan.groups for i, prompt in enumerate(group.prompts)
    ]  # fmt: skip
    if were.rows() != now:
        what = "its prompts are no longer those that the spec gives: the tasks' data or the tokenizer have changed"
        raise RunFolderError(where, what, "run it again with --fresh")
