"""What probes find beside CD, as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from patchboard.report.numbers import above_twin, between, counted, fraction


def sentences_of_probes(probes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One for each probe. probes: of summary.json, empty where there are none."""
    return [" ".join(_of_probe(name, entry)) for name, entry in probes.items()]


def _of_probe(name: str, row: Mapping[str, Any]) -> Iterator[str]:
    twin = f", of an untrained twin {fraction(row['twin'])}" if row.get("twin") is not None else ""
    yield (
        f"A {name} probe finds the task in {between(row, 'accuracy')} of prompts at layer {row['layer']}"
        f" ({counted(row['shots'], 'shot')}; its best layer on the same prompts), where CD is {fraction(row['cd'])};"
        f" of a control task {fraction(row['shuffled'])}, of random features of the tokens"
        f" {fraction(row['random_features'])}{twin}, chance {fraction(row['chance'])}."
    )
    if not row["selectivity_low"] > 0:
        yield "That is not told apart from the control task."
    if row.get("above_twin") is not None:
        yield f"Above the twin's it is by {above_twin(row)}."
    if row["agreement"]:
        yield (
            f"Over {row['agreement']['points']} pairs of a task and a layer, CD and its accuracy have rank correlation"
            f" {row['agreement']['spearman']:+.2f}."
        )
