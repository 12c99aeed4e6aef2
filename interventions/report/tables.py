"""Tables for the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from interventions.report.wording import caveats, headline_rows
from interventions.spec import Study
from interventions.store.folder import read_manifest


def _console() -> Console:
    # piped output is for reading too: wide enough that no cell is folded
    console = Console()
    return console if console.is_terminal else Console(width=160)


def print_run(folder: Path) -> None:
    """The headline of a finished run, and where its report is."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    console = _console()
    rows = headline_rows(summary)
    if rows:
        table = Table(
            title=f"Effect on {summary['metric']} at the best layer (chosen on one half, reported on the other)",
            title_justify="left",
        )
        for column in rows[0]:
            table.add_column(
                column, justify="right" if column in ("best layer", "clean", "edited", "CD there") else "left"
            )
        for row in rows:
            table.add_row(*row.values())
        console.print(table)
    fit = summary.get("accuracy_against_cd")
    if fit and fit["r2"] is not None:
        console.print(f"accuracy against CD: R² = {fit['r2']:.2f} over {fit['n']} points (layer {fit['layer']})")
    for line in caveats(read_manifest(folder)):
        console.print(line, style="dim", highlight=False)
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False)


def print_plan(study: Study, plan: dict[str, Any]) -> None:
    """What would run and what it costs."""
    console = _console()
    axes = ", ".join(f"{path} x {len(values)}" for path, values in study.axes.items()) or "no sweep"
    console.print(
        f"{study.name}  digest {study.digest[:8]}  {len(study.points)} point{'s' * (len(study.points) > 1)} ({axes})",
        highlight=False,
    )
    for model in plan["models"]:
        cost = model["cost"]
        console.print(
            f"\n{model['model']}@{model['revision']}: {model['layers']} layers, width {model['width']}", highlight=False
        )
        table = Table(show_header=True)
        for column in ("task", "shots", "queries", "cells", "copies"):
            table.add_column(column, justify="left" if column == "task" else "right")
        for group in model["groups"]:
            table.add_row(group["task"], *(str(group[c]) for c in ("shots", "queries", "cells", "copies")))
        console.print(table)
        fits = sum(fit["prompts"] for fit in model["fits"])
        decoded = sum(d["prompts"] for d in model["decodings"])
        lines = {
            "vectors": f"{model['vectors']} from {fits} fit prompts",
            "decodability": f"{decoded} prompts, all layers and shots in one pass each",
            "packs": f"{cost['packs']}",
            "forward passes": f"{cost['forwards']} (a loop needs {cost['loop_forwards']})",
            "tokens": f"{cost['tokens']:,}",
            "token-layers": f"{cost['token_layers']:,} (bound {cost['bound']:,}; a loop computes {cost['loop_token_layers']:,}, {cost['saving']} times as many)",
            "activations": f"{cost['activation_gb']} GiB at most beside the weights",
        }
        for name, text in lines.items():
            console.print(f"{name:<15} {text}", highlight=False)
