"""Tables for the terminal of what a plan would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from patchboard.report.task_counts import Counted, task_counts
from patchboard.report.terminal import standard_output
from patchboard.spec.axes import Study


def print_plan(study: Study, plan: Mapping[str, Any], follows: str = "", console: Console | None = None) -> None:
    """What would run and what it costs, from ``run.plan_json``.

    follows: the run whose results complete the study, and with it the digest. console: standard output by default.
    """
    console = console or standard_output()
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
