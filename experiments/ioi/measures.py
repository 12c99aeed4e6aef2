"""The numbers of the story: chosen on even queries, measured on odd ones, and over all of them for the maps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from patchboard.experiments.ioi.study import ATTENDING, METRIC, SOURCES, Head, whole_name
from patchboard.measure.effects import curves
from patchboard.measure.outcome_index import Outcomes
from patchboard.measure.screen_summary import rank_correlation
from patchboard.measure.statistics import Bootstrap, interval
from patchboard.tasks.families.ioi import OBJECTS, PLACES

ALL = "all"
LARGEST = 10
"""Cells that a screen is asked for."""

MEASURED = {
    "clean": pl.Float64(),  # logit difference without an edit, all queries
    "effect": pl.Float64(),  # change of it, all queries
    "ci_low": pl.Float64(),  # bootstrap over queries
    "ci_high": pl.Float64(),
    "n": pl.Int32(),
    "chosen": pl.Float64(),  # effect on even queries
    "odd": pl.Float64(),  # effect on odd ones
    "odd_low": pl.Float64(),
    "odd_high": pl.Float64(),
}
"""Of every cell below, in logits."""

PLACES_TABLE = {"source": pl.String(), "position": pl.String(), "layer": pl.Int32(), **MEASURED}
HEADS_TABLE = {
    "what": pl.String(),  # output: the head patched alone; logits, movers, others: paths from it
    "source": pl.String(),  # flip, turned or reordered
    "layer": pl.Int32(),
    "head": pl.Int32(),
    **MEASURED,
}
ATTENDING_TABLE = {"part": pl.String(), "source": pl.String(), **MEASURED}  # queries, keys, values of all movers
SCREEN_TABLE = {
    "part": pl.String(),  # places or heads
    "layer": pl.Int32(),
    "place": pl.String(),  # a position, or a head's number
    "estimate": pl.Float64(),  # by attribution, in logits, all queries
    "effect": pl.Float64(),  # exact
}
CUTS_TABLE = {"origin": pl.String(), "layers": pl.String(), "layer": pl.Int32(), "control": pl.String(), **MEASURED}
TASK_TABLE = {
    "group": pl.String(),  # all, an order (ABBA, BABA), or a template
    "difference": pl.Float64(),  # logit difference
    "ci_low": pl.Float64(),
    "ci_high": pl.Float64(),
    "preferred": pl.Float64(),  # fraction of sentences with a difference above 0
    "accuracy": pl.Float64(),  # fraction whose most probable token is the indirect object
    "n": pl.Int32(),
}


def cells(outcomes: Outcomes, name: str, bootstrap: Bootstrap) -> pl.DataFrame:
    """The cells of an intervention and its controls: their columns of store.schema.CELL, the swept ones, MEASURED."""
    where = pl.col("intervention") == name, pl.col("metric") == METRIC
    keys = ["control", "layer", "layers", "head", "position", *outcomes.swept]
    every = curves(outcomes.where(*where), bootstrap)
    even = curves(outcomes.where(*where, odd=False), bootstrap).select(*keys, chosen="effect")
    odd = curves(outcomes.where(*where, odd=True), bootstrap)
    odd = odd.select(*keys, odd="effect", odd_low="ci_low", odd_high="ci_high")
    table = every.join(even, on=keys, how="left", nulls_equal=True).join(odd, on=keys, how="left", nulls_equal=True)
    return table.with_columns(pl.col(name).cast(kind) for name, kind in MEASURED.items())


def places_table(outcomes: Outcomes, bootstrap: Bootstrap) -> pl.DataFrame:
    """PLACES_TABLE."""
    parts = []
    for name, source in (("places", "flip"), ("places_turned", "turned"), ("places_reordered", "reordered")):
        swept = f"interventions.{name}.position"
        table = cells(outcomes, name, bootstrap)
        position = pl.col(swept) if swept in table.columns else pl.col("position")
        parts.append(table.with_columns(source=pl.lit(source), position=position))
    return _columns(pl.concat(parts), PLACES_TABLE)


def heads_table(outcomes: Outcomes, bootstrap: Bootstrap, parts: Sequence[tuple[str, str, str]]) -> pl.DataFrame:
    """HEADS_TABLE. parts: (intervention, what it is, source)."""
    tables = [
        cells(outcomes, name, bootstrap).with_columns(what=pl.lit(what), source=pl.lit(source))
        for name, what, source in parts
    ]
    return _columns(pl.concat(tables), HEADS_TABLE)


def attending_table(outcomes: Outcomes, bootstrap: Bootstrap) -> pl.DataFrame:
    """ATTENDING_TABLE."""
    tables = [
        cells(outcomes, whole_name(part, source), bootstrap).with_columns(part=pl.lit(part), source=pl.lit(source))
        for part in ATTENDING
        for source in SOURCES
    ]
    return _columns(pl.concat(tables), ATTENDING_TABLE)


def screen_table(screen: pl.DataFrame, places: pl.DataFrame, heads: pl.DataFrame) -> pl.DataFrame:
    """SCREEN_TABLE. screen: store.schema.SCREEN of the run of ``screened_study``; places, heads: the exact tables."""
    of_flip = pl.col("source") == "flip"
    exact = {
        "places": places.filter(of_flip).select("layer", "effect", place="position"),
        "heads": heads.filter(of_flip, pl.col("what") == "output").select(
            "layer", "effect", place=pl.col("head").cast(pl.String)
        ),
    }
    swept = "interventions.places.position"
    parts = []
    for part, known in exact.items():
        position = pl.col(swept) if swept in screen.columns else pl.col("position")
        place = position if part == "places" else pl.col("head").cast(pl.String)
        rows = screen.filter(pl.col("intervention") == part).select("layer", "estimate", place=place)
        parts.append(rows.join(known, on=["layer", "place"]).with_columns(part=pl.lit(part)))
    return _columns(pl.concat(parts), SCREEN_TABLE)


def screened(table: pl.DataFrame) -> list[dict[str, Any]]:
    """For the summary, of each part: how well estimates rank, how many of the LARGEST exact effects are among as many
    largest estimates, and the largest of those that are not. table: SCREEN_TABLE."""
    found = []
    for (part,), rows in table.group_by("part", maintain_order=True):
        rows = rows.filter(pl.col("estimate").is_finite(), pl.col("effect").is_finite())
        by_size = {
            name: rows.sort(pl.col(name).abs(), descending=True).head(LARGEST) for name in ("estimate", "effect")
        }
        missed = by_size["effect"].join(by_size["estimate"], on=["layer", "place"], how="anti")
        found.append(
            {"part": part, "cells": len(rows), "spearman": rank_correlation(rows), "of": len(by_size["effect"]),
             "found": len(by_size["effect"]) - len(missed), "missed": missed.head(1).to_dicts()}
        )  # fmt: skip
    return found


def cuts_table(outcomes: Outcomes, bootstrap: Bootstrap) -> pl.DataFrame:
    """CUTS_TABLE."""
    table = cells(outcomes, "cut", bootstrap)
    swept = "interventions.cut.edges.from"
    origin = pl.col(swept) if swept in table.columns else pl.col("position")
    return _columns(table.with_columns(origin=origin), CUTS_TABLE)


def movers_of(heads: pl.DataFrame, count: int) -> list[Head]:
    """The heads whose direct effect lowers the logit difference most on even queries, the largest first. heads: as
    HEADS_TABLE. Heads of the first layer have none before them that could act through their queries."""
    direct = heads.filter(pl.col("what") == "logits", pl.col("source") == "flip", pl.col("layer") > 0)
    ranked = direct.sort(pl.col("chosen").fill_nan(np.inf), "layer", "head", nulls_last=True).head(count)
    return list(zip(ranked["layer"], ranked["head"], strict=True))


def task_table(
    outcomes: pl.DataFrame, prompts: pl.DataFrame, templates: Sequence[str], bootstrap: Bootstrap
) -> pl.DataFrame:
    """TASK_TABLE. outcomes: of the run of ``task_study``, one cell; prompts: its evaluated ones."""
    wide = outcomes.pivot("metric", index="query", values="clean").join(
        prompts.select("query", "text", "answer"), on="query"
    )
    wide = wide.filter(pl.col(METRIC).is_not_nan()).sort("query")
    kinds = [kind_of(text, answer, templates) for text, answer in wide.select("text", "answer").iter_rows()]
    groups = [(ALL, np.ones(len(wide), dtype=bool))]
    groups += [(order, np.array([kind[1] == order for kind in kinds])) for order in ("ABBA", "BABA")]
    groups += [(template, np.array([kind[0] == template for kind in kinds])) for template in templates]
    rows = []
    for name, chosen in groups:
        if not chosen.any():
            continue
        values = wide.filter(pl.Series(chosen))
        difference, accuracy = values[METRIC].to_numpy(), values["accuracy"].to_numpy()
        low, high = interval(difference[:, None], bootstrap)
        rows.append((name, difference.mean(), low[0], high[0], (difference > 0).mean(), accuracy.mean(), len(values)))
    return pl.DataFrame(rows, schema=TASK_TABLE, orient="row")


def kind_of(text: str, answer: str, templates: Sequence[str]) -> tuple[str, str]:
    """(template, order) of a sentence; of one that no template gives, neither.

    >>> kind_of("Bob and Amy met, Amy called", "Bob", ["[A] and [B] met, [B] called"])
    ('[A] and [B] met, [B] called', 'ABBA')
    """
    for template in templates:
        match = re.fullmatch(_pattern(template), text)
        if match:
            return template, "ABBA" if match[1] == answer else "BABA"
    return "", ""


def _pattern(template: str) -> str:
    """Its groups are the names, in their order in the text."""
    words = {"PLACE": f"(?:{'|'.join(PLACES)})", "OBJECT": f"(?:{'|'.join(OBJECTS)})"}
    parts = re.split(r"\[(\w+)\]", template)
    return "".join(words.get(part, r"(\w+)") if i % 2 else re.escape(part) for i, part in enumerate(parts))


def _columns(table: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    return table.select(pl.col(name).cast(kind) for name, kind in schema.items())
