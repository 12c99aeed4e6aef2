"""The interventions' experiment in words and in tables of text, from its summary alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from patchboard.experiment.page import Table
from patchboard.report.numbers import fraction, signed

Summary = Mapping[str, Any]

BY = {"cd": "best by CD", "effect": "best by effect"}


def introduction(summary: Summary) -> list[str]:
    """What was run, in sentences."""
    seeds, layers = summary["bars"][0]["seeds"], summary["layers"]
    return [
        f"Model {summary['model']}, tasks of the family {summary['family']}, {seeds} replicates: seeds of queries, fit"
        f" prompts and vectors. Positive ({summary['op']}): the state at the last token edited with the task's own"
        " mean; negative: with Null's; random: with a random vector of the own mean's norm.",
        f"Layers count from 0. Layer {layers['cd']} is the best by CD, as the paper chooses, on all queries. Layer"
        f" {layers['effect']} is where the own mean raises accuracy most at the fewest shots, chosen on the even"
        " queries and measured on the odd ones.",
        f"± is the standard deviation over seeds (the paper's error bar), brackets hold {summary['level']:.0%} of a"
        " bootstrap over queries within seeds.",
    ]


def findings(summary: Summary) -> list[str]:
    return [sentence for by in BY for sentence in _of_layer(summary, by)]


def _of_layer(summary: Summary, by: str) -> Iterator[str]:
    rows = [row for row in summary["bars"] if row["chosen_by"] == by]
    for shots in sorted({row["shots"] for row in rows}):
        mean = {
            condition: fmean(r["mean"] for r in rows if r["shots"] == shots and r["condition"] == condition)
            for condition in dict.fromkeys(r["condition"] for r in rows)
        }
        accuracies = ", ".join(f"{condition} {fraction(value)}" for condition, value in mean.items())
        cells = [r for r in summary["matrix"] if r["chosen_by"] == by and r["shots"] == shots]
        own = [r["mean"] for r in cells if r["measure"] == "accuracy" and r["source"] == r["target"]]
        others = [r["mean"] for r in cells if r["measure"] == "accuracy" and r["source"] != r["target"]]
        converted = [r["mean"] for r in cells if r["measure"] == "conversion"]
        matrix = f" Own means change accuracy by {signed(fmean(own))}, all others by {signed(fmean(others))}"
        matrix += f"; conversion {fraction(fmean(converted))}." if converted else "."
        layer = summary["layers"][by]
        yield f"Layer {layer} ({BY[by]}), {shots} shots, mean accuracy over tasks: {accuracies}." + matrix


def overview(summary: Summary) -> list[Table]:
    """The tables of the page: bars, and a matrix of each measure."""
    heads = ["layer", "shots", "task", "condition", "accuracy ± sd", "interval", "queries"]
    bars = [
        [_layer(row), str(row["shots"]), row["task"], row["condition"], _mean(row, fraction), _interval(row, fraction),
         str(row["n"])]
        for row in summary["bars"]
    ]  # fmt: skip
    heads_of_matrix = ["layer", "shots", "vector of", "prompts of", "measure", "mean ± sd", "interval", "queries"]
    matrix = [
        [_layer(row), str(row["shots"]), row["source"], row["target"], row["measure"], _mean(row, signed),
         _interval(row, signed), str(row["n"])]
        for row in summary["matrix"]
    ]  # fmt: skip
    return [Table("Accuracy by task", heads, bars), Table("Every task's mean on every task", heads_of_matrix, matrix)]


def _layer(row: Summary) -> str:
    return f"{row['layer']} ({BY[row['chosen_by']]})"


def _mean(row: Summary, written: Any) -> str:
    return written(row["mean"]) + ("" if row["sd"] is None else f" ± {fraction(row['sd'])}")


def _interval(row: Summary, written: Any) -> str:
    return f"[{written(row['ci_low'])}, {written(row['ci_high'])}]"
