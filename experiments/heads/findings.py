"""A head experiment in words and in tables of text, from its summary alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from patchboard.experiment.page import Table
from patchboard.experiments.heads.vectors import ADDED, ALL, PATCHED
from patchboard.report.numbers import between, counted, fraction, listed, signed

Summary = Mapping[str, Any]


_TOLD = 0.5
"""Probability or accuracy above which prompts are taken to tell their task all the same."""


def introduction(summary: Summary) -> list[str]:
    """What was run, in sentences."""
    shots = summary["shots"]
    prompts = (
        f"Prompts of {shots} demonstrations whose outputs are exchanged" if shots else "Prompts of no demonstration"
    )
    return [
        f"Model {summary['model']}, tasks of the family {summary['family']}. {prompts}; the output of one head at a"
        f" time, at the last token, is replaced by its mean over up to {summary['fit_prompts']} prompts of the same"
        f" task ({summary['fit_shots']} demonstrations with their own outputs). Average indirect effect (AIE): what"
        f" that changes of the answer's {summary['metric']}, mean over queries and tasks. 2.1 is head 1 of layer 2;"
        " layers and heads count from 0.",
        "Heads are ranked on even queries and measured on odd ones. The function vector of n heads is the sum of their"
        " means through the output projection; it is added at one layer to prompts without demonstrations, beside the"
        " mean task vector (added: its difference from all tasks'; patched: in place of the state). The layer of each"
        f" is the best on even queries, its accuracy is of odd ones. Log-probability of the answer likewise, at layers"
        f" chosen by it. Brackets hold {summary['level']:.0%} of a bootstrap over queries within tasks.",
    ]


def findings(summary: Summary) -> list[str]:
    first = next(row for row in summary["heads"] if row["metric"] == summary["metric"] and row["rank"] == 1)
    random = "" if first["random"] is None else f"; a random vector in its place {signed(first['random'])}"
    said = [
        f"Largest AIE on {summary['metric']}: head {_place(first)}, {_effect(first)} from {fraction(first['clean'])} on"
        f" queries that did not choose it{random}. {summary['above_zero']} of {summary['patched']} heads have an"
        f" interval above zero; with random vectors in their places {summary['random_above_zero']}."
    ]
    if summary["metric"] in ("probability", "accuracy") and first["clean"] > _TOLD:
        said.append(
            f"These prompts tell their task all the same ({summary['metric']} {fraction(first['clean'])} without an"
            " edit), so that heads are ranked by next to nothing: --prompts.shots=0 --prompts.labels=own asks without"
            " demonstrations."
        )
    rows = {(row["condition"], row["heads"]): row for row in summary["vectors"] if row["task"] == ALL}
    by_count = [
        f"{counted(count, 'head')} {_accuracy(rows['top heads', count])}, random heads"
        f" {fraction(rows['random heads', count]['accuracy'])}"
        for count in summary["top"]
    ]
    without, with_vectors = _accuracy(rows["no vector", None]), "; of ".join(by_count)
    said.append(f"Accuracy at 0 shots is {without}; with the function vector of {with_vectors}.")
    said.append(f"Mean task vector: added {_accuracy(rows[ADDED, None])}, patched {_accuracy(rows[PATCHED, None])}.")
    nats = {(row["condition"], row["heads"]): row for row in summary["logprobs"] if row["task"] == ALL}
    if nats:
        by_count = [f"{counted(count, 'head')} {_change(nats['top heads', count])}" for count in summary["top"]]
        random = listed(signed(nats["random heads", count]["effect"]) for count in summary["top"])
        said.append(
            f"Log-probability of the answer at 0 shots, from {fraction(nats['no vector', None]['logprob'])} nats:"
            f" function vector of {', of '.join(by_count)}; as many random heads {random}; mean task vector added"
            f" {_change(nats[ADDED, None])}, patched {_change(nats[PATCHED, None])}."
        )
    return said


def overview(summary: Summary) -> list[Table]:
    """The tables of the page: heads, conditions, and the conditions by task."""
    heads = [
        [str(r["rank"]), _place(r), r["metric"], signed(r["chosen"]), _effect(r), _random(r), str(r["n"])]
        for r in summary["heads"]
    ]
    rows = [row for row in summary["vectors"] if row["task"] == ALL]
    totals = [
        [label_of(r), _layers(r), _accuracy(r),
         "" if r["condition"] == "no vector" else _change(r), str(r["n"])]
        for r in rows
    ]  # fmt: skip
    by_place = {(row["condition"], row["heads"], row["task"]): row for row in summary["vectors"]}
    tasks = list(dict.fromkeys(task for *_, task in by_place if task != ALL))
    by_task = [[label_of(r), *(_accuracy(by_place[r["condition"], r["heads"], t]) for t in tasks)] for r in rows]
    return [
        Table(
            f"The {max(summary['top'])} best heads, ranked by {summary['metric']} on even queries",
            ["rank", "head", "metric", "AIE, even", "AIE, odd [interval]", "random vector", "queries"],
            heads,
        ),
        Table("At 0 shots", ["vector", "layer", "accuracy [interval]", "effect [interval]", "queries"], totals),
        Table("At 0 shots, by task", ["vector", *tasks], by_task),
        *_of_logprobs(summary),
    ]


def _of_logprobs(summary: Summary) -> list[Table]:
    rows = [row for row in summary["logprobs"] if row["task"] == ALL]
    changes = ["" if row["condition"] == "no vector" else _change(row) for row in rows]
    cells = [
        [label_of(row), _layers(row), fraction(row["logprob"]), change, str(row["n"])]
        for row, change in zip(rows, changes, strict=True)
    ]
    heads = ["vector", "layer", "log-probability (nats)", "effect [interval]", "queries"]
    return [Table("At 0 shots, the answer's log-probability", heads, cells)] if rows else []


def _change(row: Summary) -> str:
    return between(row, "effect", signed, "effect")


def label_of(row: Summary) -> str:
    """``top 4 heads``, ``4 random heads``, ``random vector (4 heads)``, or the condition itself."""
    count = row["heads"]
    if count is None:
        return row["condition"]
    if row["condition"] == "random vector":
        return f"random vector ({counted(count, 'head')})"
    return f"top {counted(count, 'head')}" if row["condition"] == "top heads" else counted(count, "random head")


def _place(row: Summary) -> str:
    return f"{row['layer']}.{row['head']}"


def _layers(row: Summary) -> str:
    return listed(str(layer) for layer in row["layers"]) if row["layers"] else ""


def _effect(row: Summary) -> str:
    return between(row, "effect", signed)


def _random(row: Summary) -> str:
    return "" if row["random"] is None else between(row, "random", signed, "random")


def _accuracy(row: Summary) -> str:
    return between(row, "accuracy")
