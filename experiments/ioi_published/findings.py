"""The published table in words, from its summary alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from patchboard.experiment.page import Table
from patchboard.report.numbers import between, fraction, listed, plain, signed

Summary = Mapping[str, Any]

CLEAN = 3.56
"""Logit difference of GPT-2 small without an edit: Wang et al. 2022, section 2."""
PUBLISHED = {(9, 9): -0.67, (9, 6): -0.28, (10, 0): -0.21, (10, 7): 0.45}
"""(layer, head) -> relative change of the logit difference, of GPT-2 small: Wang et al. 2022, figure 3 b."""

MANY = 10
"""Heads of the table beside the published ones."""


def introduction(summary: Summary) -> list[str]:
    return [
        f"Model {summary['model']}. One head's output at the last token is that of the same sentence with other names"
        f" (source {summary['source']}), all other heads stay as they were, and only the logits are given what comes of"
        " that: path patching to the logits, Wang et al. 2022, arXiv 2211.00593. Relative change: the mean change of"
        " the logit difference (indirect object less subject) over its mean without an edit. 9.6 is head 6 of layer 9,"
        " counted from 0.",
        "Sentences and lists of words are this library's own, not the paper's, so numbers should be near the published"
        f" ones and need not be equal. Brackets hold {summary['level']:.0%} of a bootstrap over queries.",
    ]


def findings(summary: Summary) -> list[str]:
    beside = "" if summary["published_clean"] is None else f", published {summary['published_clean']}"
    said = [
        f"Logit difference without an edit: {between(summary, 'clean', plain, 'clean')}{beside}; above 0 in"
        f" {fraction(summary['preferred'])} of {summary['n']} sentences."
    ]
    known = [row for row in summary["heads"] if row["published"] is not None]
    if known:
        each = listed(f"{_name(row)} {_relative(row)} (published {row['published']:+.2f})" for row in known)
        said.append(f"Relative change by direct paths to the logits: {each}.")
    else:
        each = listed(f"{_name(row)} {_relative(row)}" for row in summary["heads"][:4])
        said.append(f"Relative change by direct paths to the logits, the largest: {each}. None is published for it.")
    return said


def overview(summary: Summary) -> list[Table]:
    shown = [row for i, row in enumerate(summary["heads"]) if i < MANY or row["published"] is not None]
    rows = [
        [
            _name(row),
            _relative(row),
            "" if row["published"] is None else f"{row['published']:+.2f}",
            signed(row["effect"]),
        ]
        for row in shown
    ]
    heads = ["head", "relative change [interval]", "published", "change (logits)"]
    return [Table("Heads by their direct effect on the logits", heads, rows)]


def _name(row: Summary) -> str:
    return f"{row['layer']}.{row['head']}"


def _relative(row: Summary) -> str:
    return between(row, "relative", signed)
