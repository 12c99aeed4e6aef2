"""What fresh probes find after an edit that erases, as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from patchboard.report.numbers import between, counted, fraction, place_words
from patchboard.report.run_files import setting_label


def sentences_of_guardedness(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """One for each intervention, setting and probe. entries: of summary.json, none where it was not asked for."""
    return [" ".join(_of_entry(entry)) for entry in entries]


def _of_entry(entry: Mapping[str, Any]) -> Iterator[str]:
    where = ", ".join(filter(None, (entry["intervention"], setting_label(entry["at"]))))
    held, later, random = entry["held_out"], entry["later"], entry["random"]
    yield (
        f"After {where} at {place_words(entry['layers'])} a fresh {entry['probe']} probe still finds the task in"
        f" {between(held, 'accuracy')} of held-out prompts there ({fraction(held['unablated'])} without the edit,"
        f" chance {fraction(entry['chance'])})"
        + (f", after a random subspace in {between(random, 'accuracy')}" if random else "")
        + "."
    )
    if later:
        behind = later["probed_layer"] - entry["layer"]
        most = between(later, "accuracy")
        yield f"Behind that layer it finds it in at most {most}, {counted(behind, 'layer')} later."
    if entry["by_task"]:
        yield "Each task's prompts lose a subspace of their own, and that alone may tell them apart."
    sample, fit = entry["in_sample"], entry["fit"]
    if sample:
        guarded = sample["accuracy"] <= sample["constant"]
        yield (
            f"On the {sample['n']} prompts that the subspace was fitted on, fitted and tested on all of them, it is"
            f" right in {fraction(sample['accuracy'])}, {'no more' if guarded else 'more'} than the best constant"
            f" ({fraction(sample['constant'])})."
        )
    elif fit:
        yield f"Of the prompts that the subspace was fitted on it finds it in {between(fit, 'accuracy')}."
