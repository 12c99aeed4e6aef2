"""Outcomes read a few cells at a time: what is held is an index of the cells, however many rows they have.

A run writes the rows of a cell together, so the index is short: each cell with the range of its rows. Tables
in any other order are read as well; there the index has an entry for each run of rows of one cell.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

import numpy as np
import polars as pl
from numpy.typing import NDArray

from patchboard.store.schema import SCALE, swept_of

Ints = NDArray[np.int64]

_ROWS_AT_ONCE = 1 << 14
"""Rows held with all of their columns, which are mostly text: about 6 MB."""
_VALUES_AT_ONCE = 1 << 17
"""Rows held with their values only: 20 bytes each."""
_WORTH_READING = 1 << 12
"""Rows between two cells' that are read along, since a further read of the file takes longer."""

_OF_A_QUERY = ("query", "clean", "patched")
_VALUES = (*_OF_A_QUERY, *SCALE)


@dataclass(frozen=True)
class Rows:
    """Values of some cells: each row's cell (index into ``Outcomes.cells``), query, and the two values.

    scale: what they are shares of, 1 of metrics that are not normalised; None where the table has no such metric.
    """

    cell: Ints
    query: Ints
    clean: NDArray[np.float64]
    patched: NDArray[np.float64]
    scale: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Outcomes:
    """A table of outcomes, or a selection of its cells and queries. Make it through ``index_outcomes``.

    cells: the columns that name a cell (all but query and the values), one row a cell, in the order of
    their first rows. chosen: [cells] index of each in the whole table. queries: [cells] the cell's different
    queries in order; cells of the same queries hold the same array.
    """

    table: pl.LazyFrame
    cells: pl.DataFrame
    chosen: Ints
    queries: tuple[Ints, ...]
    runs: Ints
    """[runs, 3] cell (index in the whole table), first row, row behind the last one."""
    odd: bool | None = None
    """Only odd (even) queries; None for all."""

    @property
    def swept(self) -> list[str]:
        return swept_of(self.cells.columns)

    @property
    def normalised(self) -> bool:
        """Whether the table has a scale of each query, for metrics that are reported as shares."""
        return set(SCALE) <= set(self.table.collect_schema())

    def where(self, *cells: pl.Expr, odd: bool | None = None) -> Outcomes:
        """The cells that fit, with their odd or even queries only if wanted; without cells of no query."""
        some = self.cells.with_row_index("at").filter(*cells)["at"].to_numpy().astype(np.int64)
        halves: dict[int, Ints] = {}
        kept = [self.queries[i] for i in some]
        if odd is not None:
            for each in kept:
                halves.setdefault(id(each), each[each % 2 == odd])
            kept = [halves[id(each)] for each in kept]
            left = [i for i, each in enumerate(kept) if len(each)]
            some, kept = some[left], [kept[i] for i in left]
        return replace(
            self,
            cells=self.cells[some],
            chosen=self.chosen[some],
            queries=tuple(kept),
            odd=self.odd if odd is None else odd,
        )

    def rows(self, cells: Ints) -> Iterator[Rows]:
        """All rows of some cells (indices into ``cells``), in pieces, in the table's order."""
        place = np.full(len(self.runs) and int(self.runs[:, 0].max()) + 1, -1)
        place[self.chosen[cells]] = cells
        runs = self.runs[place[self.runs[:, 0]] >= 0]
        columns = [*_OF_A_QUERY, *([pl.col(name).fill_null(1.0) for name in SCALE] if self.normalised else [])]
        for some in _windows(runs):
            start, stop = int(some[0, 1]), int(some[-1, 2])
            read = self.table.select(columns).slice(start, stop - start).collect()
            sizes = some[:, 2] - some[:, 1]
            within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            taken = np.repeat(some[:, 1] - start, sizes) + within
            cell = np.repeat(place[some[:, 0]], sizes)
            query, *values = (read[name].to_numpy()[taken] for name in read.columns)
            kept = slice(None) if self.odd is None else query % 2 == self.odd
            yield Rows(cell[kept], query[kept].astype(np.int64), *(each[kept] for each in values))


def index_outcomes(table: pl.DataFrame | pl.LazyFrame) -> Outcomes:
    """Index a table of store.schema.OUTCOMES, SCALE or not, and the swept columns, reading a piece of it at a time."""
    lazy = table.lazy()
    schema = lazy.collect_schema()
    names = [name for name in schema if name not in _VALUES]
    codes: dict[tuple, int] = {}
    runs: list[tuple[int, int, int]] = []
    queries: list[Ints] = []
    known: WeakValueDictionary[tuple, Ints] = WeakValueDictionary()
    ids = np.zeros(0, dtype=np.int64)
    total = lazy.select(pl.len()).collect().item()
    for start in range(0, total, _ROWS_AT_ONCE):
        piece = lazy.select(*names, "query").slice(start, _ROWS_AT_ONCE).collect()
        # missing equals missing: a field swept for another intervention
        changes = piece.select(pl.any_horizontal(pl.col(n).ne_missing(pl.col(n).shift()) for n in names)).to_series()
        first = np.flatnonzero(changes.to_numpy() | (np.arange(len(piece)) == 0))
        of_query = piece["query"].to_numpy().astype(np.int64)
        stops = np.append(first[1:], len(piece))
        for key, a, b in zip(piece.select(names)[first].iter_rows(), first.tolist(), stops.tolist(), strict=True):
            code = codes.setdefault(key, len(codes))
            own = of_query[a:b]
            if len(own) != len(ids) or not (own == ids).all():  # nearly always the queries of the cell before
                ids = _shared(np.unique(own), known)
            if code == len(queries):
                queries.append(ids)
            elif queries[code] is not ids:
                queries[code] = _shared(np.union1d(queries[code], ids), known)
            if runs and runs[-1][0] == code:  # goes on from the piece before
                runs[-1] = (code, runs[-1][1], start + b)
            else:
                runs.append((code, start + a, start + b))
    cells = pl.DataFrame(list(codes), schema={name: schema[name] for name in names}, orient="row")
    return Outcomes(
        lazy, cells, np.arange(len(cells)), tuple(queries), np.array(runs, dtype=np.int64).reshape(len(runs), 3)
    )


def _shared(queries: Ints, known: WeakValueDictionary[tuple, Ints]) -> Ints:
    """The same array for the same queries: nearly all cells of a task are measured on the same ones."""
    key = len(queries), zlib.crc32(queries.tobytes())
    same = known.get(key)
    if same is not None and np.array_equal(same, queries):
        return same
    known[key] = queries
    return queries


def _windows(runs: Ints) -> Iterator[Ints]:
    """The runs in stretches of the table that are read at once."""
    start = 0
    for i in range(1, len(runs) + 1):
        if (
            i == len(runs)
            or runs[i, 1] - runs[i - 1, 2] > _WORTH_READING
            or runs[i, 2] - runs[start, 1] > _VALUES_AT_ONCE
        ):
            yield runs[start:i]
            start = i
