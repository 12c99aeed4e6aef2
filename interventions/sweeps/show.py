"""A sweep's table for the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from patchboard.report.numbers import fraction, plain, with_interval
from patchboard.sweeps.collect import COLUMNS
from patchboard.sweeps.runner import short


def print_sweep(folder: Path, console: Console | None = None) -> None:
    """The table of ``sweep.parquet``, the best point, and where table and figure are.

    console: standard output by default.
    """
    table = pl.read_parquet(folder / "sweep.parquet", glob=False)
    known = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    console = console or (Console() if Console().is_terminal else Console(width=170))
    console.print(_shown(table, known["metric"]))
    if known["best"]:
        at = ", ".join(f"{name}={short(value)}" for name, value in known["best"]["parameters"].items())
        line = f"best {known['metric']} ({known['goal']}d): {plain(known['best']['value'])} at {at}"
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    files = [file for file in ("sweep.parquet", "sweep.png") if (folder / file).exists()]
    console.print("sweep: " + ", ".join(str(folder / file) for file in files), soft_wrap=True, highlight=False)


def _shown(table: pl.DataFrame, metric: str | None) -> Table:
    varied = [name for name in table.columns if name not in COLUMNS]
    measured = table["metric"].drop_nulls()
    title = f"effect on {measured[0]} at the best layer of each point" if len(measured) else "no point is finished"
    shown = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in (*varied, "intervention", "setting"):
        shown.add_column(Text(name), overflow="fold")
    for name in ("layer", "effect [interval]", "n", "CD", "CD~effect", *([metric] if metric else [])):
        shown.add_column(Text(name), justify="right")
    for row in table.iter_rows(named=True):
        place = [short(row[name]) for name in varied]
        if row["status"]:
            shown.add_row(*map(Text, (*place, f"failed ({row['status']})")))
            continue
        cells = [
            row["intervention"] or "-",
            row["setting"] or "-",
            "-" if row["layer"] is None else str(row["layer"]),
            with_interval(row),
            str(row["n"] or "-"),
            fraction(row["cd"]),
            "-" if row["correlation"] is None else f"{row['correlation']:+.2f}",
        ]
        shown.add_row(*map(Text, (*place, *cells, *([plain(row["objective"])] if metric else []))))
    return shown
