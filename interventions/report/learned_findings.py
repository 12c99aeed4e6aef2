"""How vectors were learned, as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from patchboard.report.numbers import fraction, place_words


def sentences_of_learned(learned: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """learned: as ``measure.learned_summary`` gives it."""
    models = {entry["model"] for entry in learned}
    for entry in learned:
        best = entry["best"]
        where = ", ".join(filter(None, (entry["intervention"], entry["setting"])))
        where += f" on {entry['model']}" if len(models) > 1 else ""
        head = best["head"] if best["head"] >= 0 else None
        rank = "" if best["rank"] is None else f" ({best['rank']:g} dimensions)"
        place = place_words(str(best["layer"]), head, None)
        yield (
            f"{where}: learned through the model on at least {entry['pairs']} prompts a task of the fit half,"
            f" {entry['steps']} steps at most. On those held out of it (at least {entry['held_out']} a task) the answer"
            f" that it is to bring is given in {fraction(best['accuracy'])} at {place}{rank}, the best place there, and"
            f" in {fraction(best['drawn'])} before the first step. Effects are of the evaluated half."
        )
