"""A training's checkpoints in words and in tables of text, from the summary alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from patchboard.experiment.page import Table
from patchboard.measure.decodability import ALL
from patchboard.report.numbers import between, fraction, signed

Summary = Mapping[str, Any]


def introduction(summary: Summary) -> list[str]:
    """What was run, in sentences."""
    steps = summary["steps"]
    sentences = [
        f"{len(steps)} checkpoints of one training, steps {steps[0]:,} to {steps[-1]:,}, tasks of the family"
        f" {summary['family']}. CD (leave-one-out vote of {summary['k']} neighbours, chance"
        f" {fraction(summary['chance'])}) and accuracy are of the same prompts of {summary['shots']} shots.",
        f"Everything is at layer {summary['layer']} (from 0), the best by CD at the last checkpoint, so that one"
        " place is followed; beside it stands CD of the layer that is best at each checkpoint itself.",
        f"Brackets hold {summary['level']:.0%} of a bootstrap over prompts. ± is the standard deviation over tasks,"
        " Null left out: the paper's band.",
    ]
    if summary["interventions"]:
        sentences.append(
            f"Effects: {summary['metric']} of prompts of {summary['edited_shots']} shots, edited - clean, pooled over"
            " tasks; of random vectors of the same norm beside them."
        )
    if summary["unreached"]:
        sentences.append(f"The revisions are those of the local cache; {summary['unreached']}.")
    return sentences


def findings(summary: Summary) -> list[str]:
    return list(_told(summary))


def _told(summary: Summary) -> Iterator[str]:
    rows = [row for row in summary["learned"] if row["task"] == ALL]
    first, last = rows[0], rows[-1]
    yield (
        f"Layer {summary['layer']}, steps {first['step']:,} to {last['step']:,}: CD {_share(first, 'cd')} to"
        f" {_share(last, 'cd')}, accuracy {_share(first, 'accuracy')} to {_share(last, 'accuracy')}."
    )
    own = [row for row in summary["caused"] if row["task"] == ALL]
    for name in summary["interventions"]:
        effects = [row for row in own if row["intervention"] == name and not row["control"]]
        controls = [row for row in own if row["intervention"] == name and row["control"] == "random"]
        start, end, *random = (between(row, "effect", signed) for row in (effects[0], effects[-1], *controls[-1:]))
        control = f" (random: {random[0]})" if random else ""
        yield f"Effect of {name} on {summary['metric']}: {start} to {end}{control}."
    halves = summary["half_risen"][ALL]
    yield (
        "Half of its rise was reached at step: " + ", ".join(f"{_name(w)} {_step(s)}" for w, s in halves.items()) + "."
    )
    for what, found in summary["with_cd"].items():
        if found["spearman"] is not None:
            yield (
                f"Over checkpoints, CD and {_name(what)} have rank correlation {found['spearman']:+.2f}"
                f" (n = {found['n']}; both follow the steps, so this is no evidence of a cause)."
            )
    if summary["unreached"]:
        yield f"Revisions of the local cache only; {summary['unreached']}."


def overview(summary: Summary) -> list[Table]:
    """The tables of the page: over training, by task, and when what rose."""
    names = summary["interventions"]
    heads = ["step", "CD [interval]", "CD ± sd", "CD, own best layer", "accuracy [interval]", "accuracy ± sd", *names]
    spread = {row["step"]: row for row in summary["over_tasks"]}
    effects = {(r["step"], r["task"], r["intervention"]): r for r in summary["caused"] if not r["control"]}
    overall = [row for row in summary["learned"] if row["task"] == ALL]
    steps = [
        [f"{r['step']:,}", _share(r, "cd"), _spread(spread[r["step"]], "cd"),
         f"{fraction(r['own_cd'])} (layer {r['own_layer']})", _share(r, "accuracy"),
         _spread(spread[r["step"]], "accuracy"),
         *(between(effects[r["step"], ALL, name], "effect", signed) for name in names)]
        for r in overall
    ]  # fmt: skip
    tasks = [
        [f"{r['step']:,}", r["task"], _share(r, "cd"), _share(r, "accuracy"),
         *(between(effects.get((r["step"], r["task"], n)), "effect", signed) for n in names), str(r["n"])]
        for r in summary["learned"] if r["task"] != ALL
    ]  # fmt: skip
    halves = [
        [task, *(_step(found.get(what)) for what in ("cd", "accuracy", *names))]
        for task, found in summary["half_risen"].items()
    ]
    return [
        Table("Over training", heads, steps),
        Table("The step at which half of the rise is reached", ["task", "CD", "accuracy", *names], halves),
        Table("By task", ["step", "task", "CD [interval]", "accuracy [interval]", *names, "prompts"], tasks),
    ]


def _name(what: str) -> str:
    return "CD" if what == "cd" else what


def _step(step: int | None) -> str:
    return "-" if step is None else f"{step:,}"


def _share(row: Summary, what: str) -> str:
    return between(row, what, bounds=what)


def _spread(row: Summary, what: str) -> str:
    return fraction(row[f"{what}_mean"]) + ("" if row[f"{what}_sd"] is None else f" ± {fraction(row[f'{what}_sd'])}")
