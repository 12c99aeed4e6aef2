"""Comparisons of conditions (experiments/prompting.py and finetune.py), as their pages store them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pages.readings import ALL

Row = Mapping[str, Any]

_COLUMNS = ("value", "sd", "ci_low", "ci_high", "n", "layer", "difference", "difference_low", "difference_high")


def comparison(summary: Mapping[str, Any], short: Callable[[str], str]) -> dict[str, Any]:
    """What summary.json says of each condition: ``conditions[name][measure][shots]`` over all tasks, and
    ``tasks[name][task][measure][shots]``.

    measure: cd, own (CD at the condition's own best layer), accuracy, or an intervention's name: what it adds to
    accuracy. short: a condition's name in words -> the name stored.
    """
    rows = summary["compared"]
    names = dict.fromkeys(row["condition"] for row in rows)
    return {
        "layer": summary["layer"],
        "shots": summary["shots"],
        "conditions": {short(name): _by_measure(_of(rows, name, [ALL])) for name in names},
        "tasks": {short(name): {task: _by_measure(_of(rows, name, [task])) for task in _tasks(rows)} for name in names},
    }


def _tasks(rows: Iterable[Row]) -> list[str]:
    return [task for task in dict.fromkeys(row["task"] for row in rows) if task != ALL]


def _of(rows: Iterable[Row], condition: str, tasks: list[str]) -> list[Row]:
    return [row for row in rows if row["condition"] == condition and row["task"] in tasks]


def _by_measure(rows: Iterable[Row]) -> dict[str, dict[int, dict[str, Any]]]:
    measures: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        name = row["intervention"] or {"own cd": "own"}.get(row["measure"], row["measure"])
        known = {column: row[column] for column in _COLUMNS if row[column] is not None}
        measures.setdefault(name, {})[row["shots"]] = known
    return measures
