"""Texts on the page: means of all, and a few of them beside the unedited ones. What they hold is text, never markup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from patchboard.report.numbers import place_label, plain
from patchboard.report.run_files import Run, setting_label
from patchboard.store.schema import TEXTS

QUERIES = 3
"""Of an intervention, whose texts are shown."""
LONGEST = 600
"""Characters of a prompt that are shown."""


def said(run: Run) -> str:
    """How the texts were written, in a sentence."""
    section = run.spec["generate"]
    drawn = "the likeliest token each time"
    if section["temperature"]:
        drawn = (
            f"tokens drawn at temperature {section['temperature']}, by the same random numbers in both texts of a pair"
        )
    where = {
        "prompt": "at the prompt's own tokens alone",
        "decode": "at each new token as it is fed in, and not at the prompt's",
        "both": "at the prompt's own tokens and at each new one as it is fed in",
    }
    return (
        f"The model went on for at most {section['tokens']} tokens from the first {section['prompts']} evaluated"
        f" prompts of each task, {drawn}; edits were made {where[section['when']]}."
    )


def text_sections(run: Run) -> list[dict[str, Any]]:
    """Of each intervention and setting a few pairs of texts at one layer: that of its largest effect, else the middle
    one of those that have texts."""
    swept = [column for column in run.texts.columns if column not in TEXTS]
    own = run.texts.filter(pl.col("control") == "")
    return [
        _section(run, group, dict(zip(["intervention", *swept], key, strict=True)))
        for key, group in own.group_by("intervention", *swept, maintain_order=True)
    ]


def _section(run: Run, texts: pl.DataFrame, named: Mapping[str, Any]) -> dict[str, Any]:
    name, *_ = named.values()
    places = texts.select("layer", "layers", "head").unique(maintain_order=True).rows()
    setting = {field: value for field, value in named.items() if field != "intervention" and value is not None}
    point = next((p for p in _points(run, name) if p["at"] == setting), {})
    best = next((place for place in places if place[1:] == (point.get("layers"), _head(point))), None)
    layer, layers, head = best or places[len(places) // 2]
    shown = texts.filter(pl.col("layers") == layers, pl.col("head") == head, pl.col("sample") == 0)
    first = shown.group_by("task", maintain_order=True).agg(pl.all().first())  # a query of each task, then others
    rest = shown.join(first.select("task", "query"), on=["task", "query"], how="anti", maintain_order="left")
    pairs = pl.concat([first.select(shown.columns), rest]).head(QUERIES)
    return {
        "name": name,
        "at": setting_label(setting),
        "place": place_label(layers, head),
        "best": best is not None,
        "pairs": [{**pair, "prompt": _shortened(pair["prompt"])} for pair in pairs.to_dicts()],
    }


def _shortened(prompt: str) -> str:
    """Its end: many demonstrations would push the texts off the page."""
    return prompt if len(prompt) <= LONGEST else f"… {prompt[-LONGEST:]}"


def _points(run: Run, name: str) -> Sequence[Mapping[str, Any]]:
    return run.summary["interventions"].get(name, {}).get("points", ())


def _head(point: Mapping[str, Any]) -> int:
    return -1 if point.get("head") is None else point["head"]


def mean_rows(run: Run) -> Iterator[dict[str, str]]:
    """The table of means, a row for each cell: interventions first, then their controls."""
    for entry in sorted(run.summary.get("texts", ()), key=lambda entry: entry["control"] != ""):
        yield {
            "intervention": entry["intervention"],
            "control": entry["control"],
            "place": place_label(entry["layers"], entry["head"]),
            "setting": setting_label(entry["at"]),
            "n": str(entry["n"]),
            "changed": plain(entry["changed"]),
            "perplexity": _told(entry["perplexity"], "x "),
            "repetition": _told(entry["repetition"], ""),
        }


def _told(means: Mapping[str, float | None], sign: str) -> str:
    """``2.13, 6.35 (x 2.99 [2.21, 3.59])``: clean, edited, and the effect with its interval."""
    if means["clean"] is None:
        return "-"
    effect, low, high = (plain(means[field]) for field in ("effect", "ci_low", "ci_high"))
    interval = f" [{low}, {high}]" if means["ci_low"] is not None else ""
    return f"{plain(means['clean'])}, {plain(means['edited'])} ({sign}{effect}{interval})"
