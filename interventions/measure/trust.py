"""Checks that a run makes of itself: noise floor, flips, and edits that did not fire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from interventions.errors import EngineError
from interventions.ops import OPS
from interventions.plan.cells import OWN_STATE, Edit
from interventions.plan.model import Copy, Group

Values = Mapping[str, np.ndarray]


def _is_self(copy: Copy) -> bool:
    return bool(copy.edits) and all(edit.operand == OWN_STATE for edit in copy.edits)


def noise_floor(groups: Sequence[tuple[Group, Values]]) -> dict[str, float]:
    """Metric -> largest change that patching states with themselves made, over all self copies."""
    floor: dict[str, float] = {}
    for group, values in groups:
        own = [c for c, copy in enumerate(group.copies) if _is_self(copy)]
        for name, array in values.items():
            drift = np.abs(array[:, own] - array[:, :1])
            if name != "moved" and not np.isnan(drift).all():
                floor[name] = max(floor.get(name, 0.0), float(np.nanmax(drift)))
    return floor


def flip_rate(groups: Sequence[tuple[Group, Values]]) -> float:
    """Share of self copies whose exact match differs from the clean run's: near-ties broken by rounding."""
    flips, n = 0, 0
    for group, values in groups:
        own = [c for c, copy in enumerate(group.copies) if _is_self(copy)]
        array = values["accuracy"]
        seen = ~np.isnan(array[:, own])
        flips += int(((array[:, own] != array[:, :1]) & seen).sum())
        n += int(seen.sum())
    return flips / n if n else 0.0


def check_fired(groups: Sequence[tuple[Group, Values]], floor: Mapping[str, float]) -> list[str]:
    """Notes on interventions that moved no state of any query; EngineError where edits reach no logit.

    A silent no-op is the commonest way for a causal sweep to be wrong, and it looks like a zero effect.
    Moving nothing can be right (a state that is the same in every prompt, a subspace with nothing in
    it), so it is told; states that move while no log-probability does cannot.
    """
    idle: dict[tuple[str, str], set[int]] = {}
    moved_last = reached = 0.0
    for group, values in groups:
        moved, logprob = values["moved"], values["logprob"]
        for use in group.uses:
            copy = group.copies[use.patched]
            if not _acts(copy) or np.isnan(moved[:, use.patched]).all():
                continue
            far = float(np.nanmax(moved[:, use.patched]))
            if far == 0:
                cell = use.cell
                idle.setdefault((cell.intervention, cell.control), set()).add(cell.row["layer"])
            if all(_writes_to_last(edit) for edit in copy.edits):
                moved_last = max(moved_last, far)
                reached = max(reached, float(np.nanmax(np.abs(logprob[:, use.patched] - logprob[:, 0]))))
    if moved_last > 1e-3 and reached <= floor.get("logprob", 0.0):
        raise EngineError(
            "interventions",
            f"states moved by up to {moved_last:.2g}, log-probabilities by no more than the noise floor "
            f"({reached:.2g} nats)",
            "try --engine rows, and report the model's family",
        )
    return [
        f"{name}{f' ({control})' if control else ''} moved no state at layer {', '.join(map(str, sorted(layers)))}: "
        "its effect there is zero by construction"
        for (name, control), layers in idle.items()
    ]


def _writes_to_last(edit: Edit) -> bool:
    return edit.position == '"last"' and edit.site.startswith("resid") and edit.op in ("patch", "add")


def _acts(copy: Copy) -> bool:
    """Whether any edit is meant to change something."""
    return any(e.operand != OWN_STATE and e.strength != OPS.get(e.op, "op").neutral for e in copy.edits)
