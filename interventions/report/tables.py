"""Tables for the terminal of what a run found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from patchboard.report.findings import best_what
from patchboard.report.numbers import best_place, cd_there, signed, with_interval
from patchboard.report.run_files import setting_label
from patchboard.report.terminal import standard_output


def print_run(folder: Path, console: Console | None = None) -> None:
    """The summary of a finished run, and where its report is. console: standard output by default."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    console = console or standard_output()
    if summary["interventions"]:
        console.print(summary_table(summary))
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False)


def summary_table(summary: Mapping[str, Any]) -> Table:
    """One row per intervention and swept setting."""
    table = Table(box=box.SIMPLE_HEAD, title=summary_title(summary), title_justify="left")
    for column in SUMMARY_COLUMNS[:2]:
        table.add_column(column)
    for column in SUMMARY_COLUMNS[2:]:
        table.add_column(Text(column), justify="right")  # as Text: brackets are no markup here
    for row in summary_rows(summary):
        table.add_row(*map(Text, row))
    return table


SUMMARY_COLUMNS = ("intervention", "setting", "layer", "effect [interval]", "n", "controls", "CD", "CD~effect")


def summary_title(summary: Mapping[str, Any]) -> str:
    return f"effect on {summary['metric']} at the best {best_what(summary)}"


def summary_rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Texts of SUMMARY_COLUMNS, a row for each intervention and swept setting."""
    for name, entry in summary["interventions"].items():
        for number, point in enumerate(entry["points"]):
            yield (name if number == 0 else "", *_cells(point))


def _cells(point: Mapping[str, Any]) -> list[str]:
    relation = point["correlation"]
    return [
        setting_label(point["at"]) or "-",
        best_place(point),
        with_interval(point),
        str(point["n"] or "-"),
        controls_there(point),
        cd_there(point),
        "-" if not relation or relation["spearman"] is None else f"{relation['spearman']:+.2f}",
    ]


def controls_there(point: Mapping[str, Any]) -> str:
    """What the controls do at the same layer: what the intervention must be held against."""
    known = {name: entry for name, entry in (point["controls"] or {}).items() if entry["effect"] is not None}
    return ", ".join(f"{name} {signed(entry['effect'])}" for name, entry in known.items()) or "-"
