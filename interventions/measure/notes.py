"""What a run must tell beside its numbers: fewer queries than asked, cells without any, values that overflowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from interventions.errors import ModelError
from interventions.plan.model import Group, ModelPlan

Values = Mapping[str, np.ndarray]
"""Metric -> [query, copy], NaN where a copy could not be computed for a query."""


def capped(plans: Iterable[ModelPlan]) -> list[str]:
    """Notes on tasks whose pool holds fewer queries than the spec asks for."""
    groups = [group for plan in plans for group in plan.groups]
    notes = [
        f"task {group.task}: pool has {len(group.prompts)} queries of the {group.asked} asked for"
        for group in groups
        if len(group.prompts) < group.asked
    ]
    return list(dict.fromkeys(notes))


def unmeasured(groups: Sequence[tuple[Group, Values]]) -> list[str]:
    """Notes on interventions that no query of any task could take."""
    seen: dict[str, bool] = {}
    positions: dict[str, dict[str, None]] = {}
    for group, values in groups:
        for use in group.uses:
            if use.cell.control == "":
                name = use.cell.intervention
                positions.setdefault(name, {})[use.cell.row["position"]] = None
                seen[name] = seen.get(name, False) or not np.isnan(values["accuracy"][:, use.patched]).all()
    return [
        f"{name} was measured on no query: its position ({' or '.join(positions[name])}) names no token of any"
        " evaluated prompt"
        for name, any_query in seen.items()
        if not any_query
    ]


def leave_out_overflow(groups: Sequence[tuple[Group, dict[str, np.ndarray]]]) -> list[str]:
    """Set every metric to NaN (left out) where a computed log-probability is NaN or any metric infinite.

    An exact match or a rank read from logits that are no numbers looks like a value and is none. Changes the
    arrays in place; returns a note on each intervention. Raises ModelError where the clean run is concerned.
    """
    lost: dict[tuple[str, str], tuple[int, set[int]]] = {}
    for group, values in groups:
        scores = [array for name, array in values.items() if name != "moved"]
        computed = ~np.isnan(values["accuracy"])  # 0 or 1 whatever the logits are
        overflowed = computed & (np.isnan(values["logprob"]) | np.any([np.isinf(array) for array in scores], axis=0))
        if overflowed[:, 0].any():
            raise not_finite(f"{overflowed[:, 0].sum()} clean log-probabilities of {group.task}")
        for use in group.uses:
            cell, count = use.cell, int(overflowed[:, use.patched].sum())
            if count:
                known, layers = lost.get((cell.intervention, cell.control), (0, set()))
                lost[cell.intervention, cell.control] = known + count, layers | {cell.row["layer"]}
        for array in values.values():
            array[overflowed] = np.nan
    return [
        f"{name}{f' ({control})' if control else ''} gave values that are no finite numbers at layer"
        f" {', '.join(map(str, sorted(layers)))}: {count} are left out; a smaller strength may mend that"
        for (name, control), (count, layers) in lost.items()
    ]


def not_finite(what: str) -> ModelError:
    """The error for a model that overflows, or has weights that are no numbers."""
    return ModelError(
        "model.name", f"{what} are not finite numbers", "set model.dtype: float32, or check the checkpoint's weights"
    )
