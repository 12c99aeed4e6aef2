"""Sets of heads that are kept, in words: the summary's ``faithfulness``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from patchboard.plan.controls import CONTROLS
from patchboard.report.numbers import between
from patchboard.report.run_files import setting_label

_MOST = 0.9
"""Faithfulness from which on a set of heads is named."""


def of_circuits(summary: Mapping[str, Any]) -> list[str]:
    """Findings on each intervention that keeps heads, and setting."""
    entries = summary.get("faithfulness", ())
    return [
        " ".join(_of_circuit(entry, [other for other in entries if other["control"] and _alike(entry, other)], summary))
        for entry in entries
        if not entry["control"]
    ]


def title_of(entry: Mapping[str, Any]) -> str:
    """The intervention, and its setting where that is swept."""
    swept = {field: value for field, value in entry["at"].items() if "." in field}
    return ", ".join(filter(None, (entry["intervention"], setting_label(swept))))


def areas(entry: Mapping[str, Any]) -> str:
    """``CPR 0.81 [0.74, 0.88], CMD 0.20 [0.13, 0.27]``"""
    return f"CPR {between(entry['cpr'], 'value')}, CMD {between(entry['cmd'], 'value')}"


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (one["intervention"], one["at"]) == (other["intervention"], other["at"])


def _of_circuit(
    entry: Mapping[str, Any], controls: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]
) -> Iterator[str]:
    """On the faithfulness of sets of heads."""
    where, heads = title_of(entry), entry["heads"]
    if entry["cpr"]["value"] is None:
        yield f"{where}: editing all {heads} heads is not told apart from no effect, so there is nothing to share out."
        return
    inside = [point for point in entry["curve"] if 0 < point["kept"] < heads]
    enough = next((point for point in inside if point["faithfulness"] >= _MOST), None)
    shown = enough or (inside[-1] if inside else None)
    if shown is not None:
        yield (
            f"{where}: with the first {shown['kept']} of {heads} heads kept and all others edited, faithfulness on"
            f" {summary['metric']} is {between(shown, 'faithfulness')}"
            + (f", the first size of at least {_MOST:g}." if enough else f"; no size below {heads} reaches {_MOST:g}.")
        )
    yield f"Over the share of heads {areas(entry)}."
    for control in controls:
        point = next((each for each in control["curve"] if shown and each["kept"] == shown["kept"]), None)
        there = f" {between(point, 'faithfulness')} there," if point else ""
        yield f"As many random heads:{there} {areas(control)}."
        if control["cpr"]["ci_low"] <= entry["cpr"]["ci_high"] and entry["cpr"]["ci_low"] <= control["cpr"]["ci_high"]:
            yield f"The intervals of CPR overlap: {CONTROLS.get(control['control'], 'controls').overlap}."
