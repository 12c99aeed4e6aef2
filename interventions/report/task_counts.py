"""What a task family kept of its source and what it left out, by reason and by tag, as tables of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_HEADS = (
    "tag",
    "sentences that have it",
    "different first words in those kept",
    "left out: it begins in a contraction",
)


@dataclass(frozen=True)
class Counted:
    """One source: its counts in a sentence, and a row a tag."""

    sentence: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def task_counts(described: Iterable[Mapping[str, Any]]) -> list[Counted]:
    """A table for each different source with counts by tag.

    described: what families tell of themselves, as in the manifest's ``tasks`` and the plan's.
    """
    counts: list[Counted] = []
    for facts in described:
        if "by_tag" in facts:
            counted = Counted(_sentence(facts), _HEADS, tuple(_row(tag, n) for tag, n in facts["by_tag"].items()))
            if counted not in counts:  # seeds differ in their prompts, not in what the source holds
                counts.append(counted)
    return counts


def _sentence(facts: Mapping[str, Any]) -> str:
    source = facts.get("file") or (facts.get("dataset") or {}).get("name")
    named = f"{facts['source']} ({source})" if source else facts["source"]
    left = "; ".join(f"{count:,} {reason}" for reason, count in facts["excluded"].items())
    return (
        f"Source {named}: {facts['sentences_read']:,} sentences read, {facts['sentences_kept']:,} kept."
        f" Left out: {left or 'none'}."
    )


def _row(tag: str, counts: Mapping[str, int]) -> tuple[str, ...]:
    return (tag, *(f"{counts[each]:,}" for each in ("sentences", "first_words", "contracted")))
