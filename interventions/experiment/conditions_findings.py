"""A comparison of conditions in words and in tables of text, from its summary alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from patchboard.experiment.page import Table
from patchboard.measure.decodability import ALL
from patchboard.report.numbers import fraction, signed

Summary = Mapping[str, Any]
Row = Mapping[str, Any]


def how_compared(summary: Summary) -> list[str]:
    """What every comparison's page says of its numbers."""
    first = summary["compared"][0]["condition"]
    return [
        f"Layers count from 0. All conditions are compared at layer {summary['layer']}, the best by CD of '{first}' at"
        f" {summary['shots']} shots; 'own cd' is CD at each condition's own best layer. Over all tasks: mean ± standard"
        " deviation of the tasks, Null not among them.",
        f"Brackets hold {summary['level']:.0%} of a bootstrap over queries within tasks (of CD: over points, by task"
        f" only). Differences are from '{first}', on the same queries.",
    ]


def condition_sentences(summary: Summary) -> Iterator[str]:
    """A sentence for each condition, at the shots at which the layer was chosen (CD) and all there are (the rest)."""
    names = list(dict.fromkeys(row["condition"] for row in summary["compared"]))
    for name in names:
        cd, own = (_found(summary, name, measure, summary["shots"]) for measure in ("cd", "own cd"))
        clauses = [f"CD {_spread(cd)} at layer {cd['layer']}, {_spread(own)} at its own best ({own['layer']})"]
        for row in _all_tasks(summary, name):
            what = "accuracy" if row["measure"] == "accuracy" else f"effect of {row['intervention']}"
            value = _spread(row, signed if row["measure"] == "effect" else fraction)
            more = f", {_difference(row)} from '{names[0]}'" if row["difference"] is not None else ""
            clauses.append(f"{what} at {row['shots']} shots {value}{more}")
        yield f"{name[0].upper()}{name[1:]}: {'; '.join(clauses)}."


def overview(summary: Summary) -> list[Table]:
    """The paper's table, then the same by task."""
    heads = ["condition", "measure", "shots", "layer", "task", "value", "interval", "n", "difference [interval]"]
    names = list(dict.fromkeys(row["condition"] for row in summary["compared"]))
    rows = sorted(summary["compared"], key=lambda row: names.index(row["condition"]))
    whole = [_cells(row) for row in rows if row["task"] == ALL]
    by_task = [_cells(row) for row in rows if row["task"] != ALL]
    return [Table("Over all tasks", heads, whole), Table("By task", heads, by_task)]


def _cells(row: Row) -> list[str]:
    written = signed if row["measure"] == "effect" else fraction
    interval = "" if row["ci_low"] is None else f"[{written(row['ci_low'])}, {written(row['ci_high'])}]"
    measure = f"effect of {row['intervention']}" if row["intervention"] else row["measure"]
    layer = "" if row["layer"] is None else str(row["layer"])
    task = "all tasks" if row["task"] == ALL else row["task"]
    return [
        row["condition"], measure, str(row["shots"]), layer, task, _spread(row, written), interval, str(row["n"]),
        "" if row["difference"] is None else _difference(row),
    ]  # fmt: skip


def _all_tasks(summary: Summary, condition: str) -> list[Row]:
    rows = [r for r in summary["compared"] if r["condition"] == condition and r["task"] == ALL]
    return [row for row in rows if row["measure"] in ("accuracy", "effect")]


def _found(summary: Summary, condition: str, measure: str, shots: int) -> Row:
    wanted = condition, measure, shots, ALL
    rows = summary["compared"]
    return next(r for r in rows if (r["condition"], r["measure"], r["shots"], r["task"]) == wanted)


def _spread(row: Row, written: Any = fraction) -> str:
    return written(row["value"]) + ("" if row["sd"] is None else f" ± {fraction(row['sd'])}")


def _difference(row: Row) -> str:
    return f"{signed(row['difference'])} [{signed(row['difference_low'])}, {signed(row['difference_high'])}]"
