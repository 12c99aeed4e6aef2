"""How a comparison of runs shows itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from patchboard.api.display import as_text, html_table
from patchboard.report.numbers import with_interval

if TYPE_CHECKING:
    from rich.console import Console

_MEASURED: tuple[str, ...] = ("effect", "ci_low", "ci_high")
_DIFFERENCE = ("difference", "difference_low", "difference_high")
_SHOWN = {"run_a", "run_b", "paired", *_DIFFERENCE, *(f"{name}_{side}" for side in "ab" for name in (*_MEASURED, "n"))}
_MOST_ROWS = 40


class Comparison(pl.DataFrame):
    """A polars data frame with one row a cell, metric and compared run; shows itself as a table of intervals.

    ``run_a, run_b`` (folders' names), the cell's columns, ``metric``; ``effect_a, ci_low_a, ci_high_a, n_a`` and the
    same of b, as in ``effects``; ``difference`` = effect_b − effect_a with ``difference_low`` and ``difference_high``;
    ``paired``. All in the metric's unit. ``compare`` makes it.

    >>> pb.compare(run, run).columns[-4:]
    ['difference', 'difference_low', 'difference_high', 'paired']
    """

    def __repr__(self) -> str:
        return as_text(self._print) if _SHOWN <= set(self.columns) else super().__repr__()

    __str__ = __repr__

    def _repr_html_(self, **options: Any) -> str:
        if not set(self.columns) >= _SHOWN:
            return super()._repr_html_(**options)
        heads, rows = self._texts()
        return html_table(heads, rows, self._caption(), range(len(heads) - 3, len(heads)))

    def _print(self, console: Console) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        heads, rows = self._texts()
        table = Table(box=box.SIMPLE_HEAD, title=Text(self._caption()), title_justify="left")
        for number, head in enumerate(heads):
            table.add_column(Text(head), justify="right" if number >= len(heads) - 3 else "left")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)

    def _caption(self) -> str:
        others = self["run_b"].unique(maintain_order=True).to_list()
        pairs = "paired by query" if self["paired"].all() else "not all paired by query"
        return f"a: {', '.join(self['run_a'].unique())}, b: {', '.join(others)}; effects [interval], {pairs}"

    def _texts(self) -> tuple[list[str], list[list[str]]]:
        """Titles and rows, without columns that say the same everywhere and rows beyond the first ones."""
        several = ["run_b"] if self["run_b"].n_unique() > 1 else []
        cell = [name for name in self.columns if name not in _SHOWN]
        if (self["layers"] == self["layer"].cast(pl.String())).all():
            cell.remove("layers")
        names = several + [name for name in cell if name in ("task", "layer") or self[name].n_unique() > 1]
        heads = [*names, "a", "b", "b − a"]
        rows = []
        for row in self.head(_MOST_ROWS).iter_rows(named=True):
            a, b = ({name: row[f"{name}_{side}"] for name in _MEASURED} for side in "ab")
            both = {name: row[difference] for name, difference in zip(_MEASURED, _DIFFERENCE, strict=True)}
            cells = ["-" if row[name] is None else str(row[name]) for name in names]
            rows.append([*cells, *map(with_interval, (a, b, both))])
        if len(self) > _MOST_ROWS:
            rows.append([f"… {len(self) - _MOST_ROWS} more", *[""] * (len(heads) - 1)])
        return heads, rows
