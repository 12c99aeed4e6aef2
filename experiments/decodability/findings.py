"""A decodability experiment in words and in tables of text, from its summary alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from patchboard.experiment.page import Table
from patchboard.report.numbers import above_twin, between, fraction

Summary = Mapping[str, Any]


def introduction(summary: Summary) -> list[str]:
    """What was run, in sentences."""
    return [
        f"Model {summary['model']}, {summary['layers']} layers (counted from 0), tasks of the family"
        f" {summary['family']}. States at the token before the answer, output of each block; leave-one-out vote of"
        f" {summary['k']} neighbours; chance {fraction(summary['chance'])}, of a pair of tasks 0.50.",
        f"Pairs and the choice of the layer are at {summary['shots']} shots; intervals hold {summary['level']:.0%} of a"
        " bootstrap over points, their neighbours as they are.",
    ]


def findings(summary: Summary) -> list[str]:
    choice, first, last = summary["choice"], summary["by_shots"][0], summary["by_shots"][-1]
    closest = summary["pairs"][0]
    hardest = min(summary["by_task"], key=lambda row: row["cd"])
    return [
        f"Best layer by CD at {summary['shots']} shots: {choice['layer']}, CD {fraction(choice['cd'])}; chosen on half"
        f" of the points ({choice['half_layer']}), the other half gives {fraction(choice['half_cd'])}"
        f" [{fraction(choice['ci_low'])}, {fraction(choice['ci_high'])}].",
        *_of_floors(summary.get("floors")),
        f"With demonstrations the best layer's CD goes from {between(first, 'cd')} at {first['shots']} shots to"
        f" {between(last, 'cd')} at {last['shots']}.",
        f"Hardest task there: {hardest['task']}, {between(hardest, 'cd')}. Closest pair: {closest['task']} and"
        f" {closest['other']}, {between(closest, 'cd')} where 0.50 is chance.",
    ]


def _of_floors(floors: Summary | None) -> Iterator[str]:
    """CD at the chosen layer and at its best beside an untrained twin's, and what shuffled labels give."""
    if not floors:
        return
    chosen, highest = floors["chosen"], floors["highest"]
    if highest:
        yield (
            f"CD above that of an untrained twin: {above_twin(chosen)} at layer {chosen['layer']}"
            f" ({between(chosen, 'cd')} against {between(chosen, 'twin', bounds='twin')}), most at layer"
            f" {highest['layer']}: {above_twin(highest)}."
        )
    if chosen.get("shuffled") is not None:
        yield f"Labels shuffled over the prompts give {between(chosen, 'shuffled', bounds='shuffled')} there."


def overview(summary: Summary) -> list[Table]:
    """The tables of the page."""
    cells = {"cd": "CD [interval]"} | ({"above_twin": "above the twin's"} if _has_twin(summary) else {})
    shots = [[str(r["shots"]), str(r["layer"]), *_cds(r, cells), fraction(r["accuracy"])] for r in summary["by_shots"]]
    tasks = [[r["task"], *_cds(r, cells), fraction(r["accuracy"]), str(r["n"])] for r in summary["by_task"]]
    pairs = [[r["task"], r["other"], between(r, "cd"), str(r["n"])] for r in summary["pairs"]]
    at = f"layer {summary['choice']['layer']}, {summary['shots']} shots"
    return [
        Table("The best layer at each number of shots", ["shots", "layer", *cells.values(), "accuracy"], shots),
        Table(f"By task, {at}", ["task", *cells.values(), "accuracy", "points"], tasks),
        Table(f"By pair, {at}", ["task", "other", "CD [interval]", "points"], pairs),
    ]


def _has_twin(summary: Summary) -> bool:
    return bool("floors" in summary and summary["floors"]["highest"])


def _cds(row: Mapping[str, Any], columns: Iterable[str]) -> list[str]:
    return [above_twin(row) if column == "above_twin" else between(row, column) for column in columns]
