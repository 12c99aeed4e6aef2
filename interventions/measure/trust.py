"""Checks that a run makes of itself: noise floor, flips, and edits that did not fire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interventions.errors import EngineError
from interventions.ops import OPS
from interventions.plan.cells import OWN_STATE
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


def _must_move(copy: Copy) -> bool:
    """Whether a vector is written. A subspace may be empty in good faith: LEACE finds nothing to erase."""
    ops = [(edit, OPS.get(edit.op, "op")) for edit in copy.edits if edit.operand != OWN_STATE]
    return any(op.operand == "vector" and edit.strength != op.neutral for edit, op in ops)


def check_fired(groups: Sequence[tuple[Group, Values]], floor: Mapping[str, float]) -> None:
    """Raises EngineError for an edit that moved no state, and for a run whose edits reach no logit.

    A silent no-op is the commonest way for a causal sweep to be wrong, and it looks like a zero effect.
    """
    reached, must_reach = 0.0, False
    for group, values in groups:
        moved, logprob = values["moved"], values["logprob"]
        for c, copy in enumerate(group.copies):
            if copy.target or not _must_move(copy) or np.isnan(moved[:, c]).all():
                continue
            if np.nanmax(moved[:, c]) == 0:
                raise EngineError(_where(copy), f"the edit changed no state of task {group.task}", "report this spec")
            if any(edit.position == '"last"' and edit.op in ("patch", "add") for edit in copy.edits):
                must_reach = True
                reached = max(reached, float(np.nanmax(np.abs(logprob[:, c] - logprob[:, 0]))))
    if must_reach and reached <= floor.get("logprob", 0.0):
        raise EngineError(
            "interventions",
            f"no edit moved any log-probability beyond the noise floor ({reached:.2g} nats)",
            "try --engine rows, and report the model's family",
        )


def _where(copy: Copy) -> str:
    edit: Any = copy.edits[0]
    return f"{edit.op} at {edit.site} of layer {edit.layer} ({edit.operand or 'no operand'})"
