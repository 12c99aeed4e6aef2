"""Effects of runs side by side, and their differences with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from patchboard.api.comparison import Comparison
from patchboard.errors import SpecError
from patchboard.execution.results import bootstrap_of
from patchboard.measure.cell_matrices import ROLE
from patchboard.measure.statistics import Bootstrap, Floats, Replicates, drawn, quantiles
from patchboard.registry import suggest
from patchboard.report.explorer.prompts import prompts_at
from patchboard.store.schema import CELL

if TYPE_CHECKING:
    from patchboard.api.result import Run

_KEYS = ("task", *CELL, "metric")
_MEASURED = ("effect", "ci_low", "ci_high", "n")
_ROW = "row of the comparison"


def compare(*runs: Run, ignoring: Sequence[str] = ()) -> Comparison:
    """The cells that runs have in common, their effects side by side, and how much they differ.

    runs: two or more; each further one is held against the first. ignoring: columns that need not agree, ``seed`` or
    ``strength``, say; a cell must still be one without them.

    One row a task, cell, metric and further run (see ``Comparison``): ``difference`` = effect_b − effect_a, in the
    metric's unit, with a percentile bootstrap interval, of the first run's ``statistics``. Where the prompts of both
    are the same texts, the same queries are drawn for both (``paired``: what is common to both cancels out); otherwise
    each is resampled by itself. Raises SpecError where two runs have no cell in common.

    >>> table = pb.compare(run, run)
    >>> len(table) == len(run.effects), table["difference"].abs().max(), table["paired"].all()
    (True, 0.0, True)
    """
    if len(runs) < 2:
        raise SpecError(
            "compare", f"found {len(runs)} run{'s' * (len(runs) != 1)}, expected at least 2", "give another"
        )
    for name in ignoring:
        if name not in _KEYS[1:] and not any(name in run.effects.columns for run in runs):
            raise SpecError("compare(ignoring)", f"no run has a column '{name}'", suggest(name, _KEYS[1:]))
    first, *others = runs
    names = _names([run.path for run in runs])
    bootstrap = bootstrap_of(first.study)
    tables = [
        _compared(first, other, set(ignoring), (names[0], name), bootstrap)
        for other, name in zip(others, names[1:], strict=True)
    ]
    return Comparison(pl.concat(tables, how="diagonal_relaxed"))


def _names(folders: Sequence[Path]) -> list[str]:
    """Folders' names, as many of their parents in front as it takes to tell different ones apart."""
    full = [folder.resolve() for folder in folders]
    for parts in count(1):
        names = ["/".join(folder.parts[-parts:]) for folder in full]
        if len(set(names)) == len(set(full)):
            return names
    raise AssertionError


def _compared(a: Run, b: Run, ignored: set[str], names: tuple[str, str], bootstrap: Bootstrap) -> pl.DataFrame:
    left, right = a.effects, b.effects
    keys = [name for name in left.columns if name in right.columns and name not in (*ignored, *_NOT_KEYS)]
    for name in keys:  # a swept field may hold numbers in one run and text in the other
        if left.schema[name] != right.schema[name]:
            left, right = (table.with_columns(pl.col(name).cast(pl.String())) for table in (left, right))
    for table, name in ((left, names[0]), (right, names[1])):
        if table.select(keys).is_duplicated().any():
            what = f"{name} has several cells that are one without {_listed(set(table.columns) - set(keys))}"
            raise SpecError("compare", what, "ignore fewer columns, or compare parts that agree in them")
    joined = left.select(*keys, *_MEASURED).join(
        right.select(*keys, *_MEASURED), on=keys, how="inner", nulls_equal=True, suffix="_b", maintain_order="left"
    )
    if joined.is_empty():
        raise SpecError(
            "compare", f"{names[0]} and {names[1]} have no cell in common{_apart(left, right, keys)}", _REMEDY
        )
    joined = joined.rename({name: f"{name}_a" for name in _MEASURED})
    low, high, paired = _intervals(a, b, joined.select(keys), bootstrap)
    return joined.select(
        pl.lit(names[0]).alias("run_a"), pl.lit(names[1]).alias("run_b"), *keys,
        *(f"{name}_{side}" for side in "ab" for name in _MEASURED),
        difference=pl.col("effect_b") - pl.col("effect_a"), difference_low=pl.Series(low),
        difference_high=pl.Series(high), paired=pl.Series(paired),
    )  # fmt: skip


_NOT_KEYS = ("clean", "patched", *_MEASURED, "excluded")
_REMEDY = "compare runs of the same interventions, or ignore the columns in which they differ"


def _apart(left: pl.DataFrame, right: pl.DataFrame, keys: Sequence[str]) -> str:
    """The first column of which the two have no value in common."""
    for name in keys:
        mine, theirs = (table[name].unique(maintain_order=True).to_list() for table in (left, right))
        if not set(mine) & set(theirs):
            return f" ({name}: {', '.join(map(str, mine[:4]))} against {', '.join(map(str, theirs[:4]))})"
    return ""


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names - set(_NOT_KEYS))) or "more columns"


def _intervals(a: Run, b: Run, cells: pl.DataFrame, bootstrap: Bootstrap) -> tuple[Floats, Floats, list[bool]]:
    """Of each cell's difference: low and high, and whether it is paired. cells: the columns that name each."""
    low, high = np.full((2, len(cells)), np.nan)
    paired = [False] * len(cells)
    of_a, of_b = _settings(a, cells), _settings(b, cells)
    for setting_a, setting_b in dict.fromkeys(zip(of_a, of_b, strict=True)):
        both = (setting_a, setting_b)
        rows = np.array([row for row, pair in enumerate(zip(of_a, of_b, strict=True)) if pair == both])
        alike = _queries(a, setting_a) == _queries(b, setting_b)
        for start in range(0, len(rows), bootstrap.cells_at_once):
            some = rows[start : start + bootstrap.cells_at_once]
            task = cells["task"][int(some[0])]
            replicates = (
                _replicates(_values(b, cells, some), task if alike else f"{task} of another run", bootstrap)
                - _replicates(_values(a, cells, some), task, bootstrap)
            )  # fmt: skip
            low[some], high[some] = quantiles(replicates, bootstrap.level)
        for row in rows:
            paired[row] = alike
    return low, high, paired


Setting = tuple[tuple[str, object], ...]
"""What the prompts of a cell depend on: their role, task, shots, seed and the swept fields, with their values."""


def _settings(run: Run, cells: pl.DataFrame) -> list[Setting]:
    """The setting of each cell in the run."""
    swept = [name for name in run.effects.columns if name not in (*_KEYS, *_NOT_KEYS)]
    names = ["role", "task", "shots", "seed", *swept]
    effects = _as_in(run.effects, cells).with_columns(ROLE)
    hidden = [name for name in names if name not in cells.columns]
    table = cells.join(
        effects.select(*cells.columns, *hidden), on=cells.columns, how="left", nulls_equal=True, maintain_order="left"
    )
    return [tuple(row.items()) for row in table.select(names).iter_rows(named=True)]


def _as_in(table: pl.DataFrame, cells: pl.DataFrame) -> pl.DataFrame:
    """The table with the types that the cells' columns have."""
    return table.with_columns(pl.col(name).cast(kind) for name, kind in cells.schema.items())


def _queries(run: Run, setting: Setting) -> list[tuple[str, str]]:
    """Text and answer of each prompt, in order of the queries."""
    fields = dict(setting)
    named = {name: fields.pop(name) for name in ("role", "task", "shots")}
    return prompts_at(run.prompts, named, fields).select("text", "answer").rows()


def _values(run: Run, cells: pl.DataFrame, rows: np.ndarray) -> Floats:
    """[query, cell] patched − clean of some of the cells, which share their queries; NaN where one is excluded."""
    some = cells[rows].with_columns(pl.Series(_ROW, np.arange(len(rows)), dtype=pl.UInt32()))
    outcomes = _as_in(run.outcomes, cells).join(some, on=cells.columns, nulls_equal=True).sort(_ROW, "query")
    return (outcomes["patched"] - outcomes["clean"]).to_numpy().reshape(len(rows), -1).T


def _replicates(values: Floats, stratum: str, bootstrap: Bootstrap) -> Floats:
    """[cell, resample] means over the drawn queries."""
    replicates = Replicates(values.shape[1], bootstrap.resamples)
    for resamples, counts in drawn(stratum, len(values), bootstrap):
        replicates.add(values, counts, slice(None), resamples)
    return replicates.means()
