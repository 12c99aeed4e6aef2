"""Tables for the terminal: what a run found, and what a plan would cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from patchboard.report.findings import best_what
from patchboard.report.numbers import best_place, cd_there, signed, with_interval
from patchboard.report.run_files import setting_label
from patchboard.report.task_counts import Counted, task_counts
from patchboard.spec.axes import Study


def _console() -> Console:
    """Standard output; wide where it is no terminal, so that what is piped into a file is not folded."""
    console = Console()
    return console if console.is_terminal else Console(width=150)


def print_run(folder: Path, console: Console | None = None) -> None:
    """The summary of a finished run, and where its report is. console: standard output by default."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    console = console or _console()
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


def print_plan(study: Study, plan: Mapping[str, Any], follows: str = "", console: Console | None = None) -> None:
    """What would run and what it costs, from ``run.plan_json``.

    follows: the run whose results complete the study, and with it the digest. console: standard output by default.
    """
    console = console or _console()
    title = plan_title(study)
    if follows:
        console.print(Text(f"{study.name}, after {follows}, which decides its cells:"), soft_wrap=True)
        title = ""
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    table.add_column("")
    for model in plan["models"]:
        table.add_column(model["model"], justify="right")
    for name, values in plan_rows(plan).items():
        table.add_row(name, *values)
    console.print(table)
    for counted in task_counts(facts for model in plan["models"] for facts in model["tasks"]):
        console.print(Text(counted.sentence), soft_wrap=True)
        console.print(counts_table(counted))


def plan_title(study: Study) -> str:
    return f"{study.name}, digest {study.digest[:8]}"


def plan_rows(plan: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is counted -> its text for each model of a plan."""
    costs = [model["cost"] for model in plan["models"]]
    probes = [cost.get("probe_fits", 0) for cost in costs]
    by_twin = [cost.get("twin_tokens", 0) for cost in costs]
    rows = {
        "layers x width": [f"{model['layers']} x {model['width']}" for model in plan["models"]],
        **_screen_rows(costs),
        "cells": [f"{cost['cells']:,}" for cost in costs],
        **_learning_rows(costs),
        "queries": [f"{cost['queries']:,}" for cost in costs],
        "vectors": [f"{model['vectors']:,}" for model in plan["models"]],
        "packs": [f"{cost['packs']:,}" for cost in costs],
        "forward passes": [f"{cost['forwards']:,}" for cost in costs],
        "one pass a cell and query": [f"{cost['loop_forwards']:,}" for cost in costs],
        "tokens": [f"{cost['tokens']:,}" for cost in costs],
        **({"of them by the untrained twin": [f"{each:,}" for each in by_twin]} if any(by_twin) else {}),
        **({"fits of probes": [f"{each:,}" for each in probes]} if any(probes) else {}),
        "token-layers": [f"{cost['token_layers']:,}" for cost in costs],
        "bound on token-layers": [f"{cost['bound']:,}" for cost in costs],
        "FLOPs, padding and attention included": [f"{cost['flops']:.3g}" for cost in costs],
        "bound on FLOPs": [f"{cost['bound_flops']:.3g}" for cost in costs],
        "saving over one pass a cell": [f"{cost['saving']}x" for cost in costs],
        "activations at once (GB)": [f"{cost['activation_gb']}" for cost in costs],
    }
    rows |= _text_rows(costs)
    if any("top_tokens" in cost for cost in costs):
        rows["distributions whose top tokens are kept"] = [f"{cost.get('top_tokens', 0):,}" for cost in costs]
        rows["bytes of top tokens"] = [f"{cost.get('top_token_bytes', 0):,}" for cost in costs]
    rows |= _second_rows(plan["models"])
    remote = [model.get("remote") for model in plan["models"]]
    if any(remote):
        rows |= {
            "remote jobs": [f"{one['jobs']:,}" for one in remote],
            "tokens in jobs, their fits included": [f"{one['tokens']:,}" for one in remote],
            "bytes up": [f"{one['bytes_up']:,}" for one in remote],
            "bytes down, at most": [f"{one['bytes_down']:,}" for one in remote],
        }
    return rows


_PHASES = {"fit": "fit", "decodability": "CD", "packs": "packs"}


def _second_rows(models: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What each phase is predicted to take, where that was asked for."""
    kinds = {
        "predicted_seconds": "predicted seconds of",
        "predicted_processor_seconds": "predicted processor seconds of",
    }
    return {
        f"{title} {called}": [f"{model[key][phase]:.1f}" if phase in model[key] else "-" for model in models]
        for key, title in kinds.items()
        for phase, called in _PHASES.items()
        if any(phase in model.get(key, {}) for model in models)
    }


def _screen_rows(costs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What a screen adds, where there is one."""
    rows = _counted_rows(
        costs,
        {
            "cells estimated by the screen": "screened",
            "its passes, forwards and backwards": "screen_passes",
            "about the tokens in them": "screen_tokens",
        },
    )
    return rows and rows | {"of what is run exactly, as if the cells of most work were kept": ["" for _ in costs]}


def _text_rows(costs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What texts add, where there are any."""
    return _counted_rows(
        costs,
        {
            "texts, unedited ones among them": "texts",
            "their passes, at most": "text_passes",
            "their tokens, at most": "text_tokens",
            "their token-layers, at most": "text_token_layers",
        },
    )


def _learning_rows(costs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What learning vectors adds, where some are learned."""
    return _counted_rows(
        costs,
        {
            "vectors learned through the model": "learned",
            "their passes at most, forwards and mostly backwards": "learning_passes",
            "tokens in them": "learning_tokens",
            "token-layers in them, forwards": "learning_token_layers",
        },
    )


def _counted_rows(costs: Sequence[Mapping[str, Any]], keys: Mapping[str, str]) -> dict[str, list[str]]:
    """Title -> its count in each cost, 0 where it has none; no rows where no cost has the first of the keys."""
    first = next(iter(keys.values()))
    if not any(first in cost for cost in costs):
        return {}
    return {title: [f"{cost.get(key, 0):,}" for cost in costs] for title, key in keys.items()}


def counts_table(counted: Counted) -> Table:
    """What a source holds, a row a tag."""
    table = Table(box=box.SIMPLE_HEAD)
    for number, head in enumerate(counted.heads):
        table.add_column(Text(head), justify="right" if number else "left")
    for row in counted.rows:
        table.add_row(*map(Text, row))
    return table
