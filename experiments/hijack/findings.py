"""An experiment in words and in tables of text, from its summary alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from patchboard.experiment.page import Table
from patchboard.experiments.hijack.settings import HijackSettings
from patchboard.report.numbers import fraction, listed, signed

Model = Mapping[str, Any]


def introduction(settings: HijackSettings) -> list[str]:
    """What was run, in sentences."""
    own, training, prompts = settings.language, settings.training, settings.prompts
    where = "all tokens" if training.loss == "all" else "triggers at their second and later occurrences"
    return [
        f"A bigram language of {own.vocab} tokens; each sequence has {own.triggers} trigger tokens among the"
        f" {own.common} common ones, each followed by an output of that sequence's own.",
        f"Two attention layers of one head, width {settings.model.width}, positions {listed(settings.model.positions)};"
        f" {training.steps:,} steps of {training.batch} sequences of {training.length} tokens, loss on {where};"
        f" seeds {listed(map(str, training.seeds))}.",
        f"{prompts.each} prompts for each kind and setting. Margin: logit of b, which followed a in the prompt, minus"
        " logit of c, which usually follows a in training, at the last token, a.",
    ]


def findings(summary: Model) -> list[str]:
    return [sentence for model in summary["models"] for sentence in _of_model(model, summary)]


def _of_model(model: Model, summary: Model) -> Iterator[str]:
    name, trained = name_of(model), summary["trained_length"]
    counts = kind(model, "count")
    shown = [row for row in counts if row["count"] > 0]
    first = next((row["count"] for row in shown if row["ci_low"] > 0), None)
    won = "at no count" if first is None else f"from {first} shown on"
    yield (
        f"{name}: over all tokens the context wins {won} (interval above 0); at {counts[-1]['count']} shown the margin"
        f" is {_margin(counts[-1])}, and {fraction(counts[-1]['hijacked'])} of the prompts are still answered with c."
    )
    one = sorted(kind(model, "distance"), key=lambda row: row["distance"])
    if len(one) > 1:
        yield (
            f"{name}: one pair {one[-1]['distance']} tokens before the end gives {_margin(one[-1])}, one"
            f" {one[0]['distance']} tokens before it {_margin(one[0])}."
        )
    near = kind(model, "near")
    at = max((row for row in near if row["length"] <= trained), key=lambda row: row["length"], default=None)
    beyond = near[-1]
    if at and beyond["length"] > trained:
        yield (
            f"{name}: with the pairs near the end the margin goes from {_margin(at)} at {at['length']} tokens to"
            f" {_margin(beyond)} at {beyond['length']}; b is answered in {fraction(at['copied'])} and"
            f" {fraction(beyond['copied'])} of the prompts."
        )
    yield (
        f"{name}: by its weights, layer 1 returns the previous place at each of the places 1 to"
        f" {model['previous_up_to']} (training had {trained}, the longest prompt {summary['longest']})."
    )


def overview(summary: Model) -> list[Table]:
    """The tables of the page: recall of the memories, margins by count."""
    models = summary["models"]
    memories = [
        [name_of(model), each["memory"], "in training's range" if each["trained"] else "beyond",
         fraction(each["right"]), str(each["n"])]
        for model in models
        for each in model["memories"]
    ]  # fmt: skip
    heads = ["positions", "kind", "count", "distance", "tokens", "margin [interval]", "observer", "b", "c"]
    margins = [
        [name_of(model), row["kind"], str(row["count"]), str(row["distance"] or ""), str(row["length"]), _margin(row),
         signed(row["ideal"]), fraction(row["copied"]), fraction(row["hijacked"])]
        for model in models
        for row in model["margins"]
    ]  # fmt: skip
    return [
        Table("What the memories return", ["positions", "memory", "items", "right", "of"], memories),
        Table("Margins over all tokens; shares of prompts answered with b and c", heads, margins),
    ]


def name_of(model: Model) -> str:
    return f"{model['positions']}, seed {model['seed']}"


def kind(model: Model, wanted: str) -> list[Model]:
    return [row for row in model["margins"] if row["kind"] == wanted]


def _margin(row: Model) -> str:
    return f"{signed(row['margin'])} [{signed(row['ci_low'])}, {signed(row['ci_high'])}]"
