"""Checks that a run makes of itself, group by group: noise floor, flips, and edits that did not fire."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from patchboard.errors import EngineError
from patchboard.measure.ends import Ends
from patchboard.measure.notes import Overflow, Unmeasured
from patchboard.measure.scored_group import ScoredGroup
from patchboard.measure.statistics import Bootstrap
from patchboard.ops import OPS
from patchboard.plan.cells import OWN_STATE, Edit
from patchboard.plan.model import Counterfactual


class Checks:
    """All that a run checks and tells of its own values."""

    def __init__(self, bootstrap: Bootstrap) -> None:
        """bootstrap: of the run's intervals."""
        self.unmeasured, self.overflow, self.ends = Unmeasured(), Overflow(), Ends(bootstrap)
        self.noise_floor, self.flips, self.fired = NoiseFloor(), Flips(), InertEdits()

    def update(self, scored: ScoredGroup) -> None:
        """Take a group in; leaves out its values that overflowed. Raises ModelError as ``Overflow`` does."""
        self.unmeasured.update(scored)  # first: what overflowed was measured
        self.overflow.update(scored)
        for check in (self.noise_floor, self.flips, self.fired, self.ends):
            check.update(scored)

    def notes(self) -> list[str]:
        """What must be told. Raises EngineError as ``InertEdits`` does."""
        fired = self.fired.notes(self.noise_floor.floor)
        return [*self.unmeasured.notes(), *self.overflow.notes(), *fired, *self.ends.notes]


class NoiseFloor:
    """Metric -> largest change that patching states with themselves made, over all self copies."""

    def __init__(self) -> None:
        self.floor: dict[str, float] = {}

    def update(self, scored: ScoredGroup) -> None:
        own = [c for c, copy in enumerate(scored.group.copies) if _is_self(copy)]
        for name, array in scored.values.items():
            drift = np.abs(array[:, own] - array[:, :1])
            if name != "moved" and not np.isnan(drift).all():
                self.floor[name] = max(self.floor.get(name, 0.0), float(np.nanmax(drift)))


class Flips:
    """Share of self copies whose exact match differs from the clean run's: near-ties broken by rounding."""

    def __init__(self) -> None:
        self._flips = self._seen = 0

    def update(self, scored: ScoredGroup) -> None:
        own = [c for c, copy in enumerate(scored.group.copies) if _is_self(copy)]
        array = scored.values["accuracy"]
        seen = ~np.isnan(array[:, own])
        self._flips += int(((array[:, own] != array[:, :1]) & seen).sum())
        self._seen += int(seen.sum())

    @property
    def rate(self) -> float:
        return self._flips / self._seen if self._seen else 0.0


class InertEdits:
    """Whether edits that must change something did.

    A silent no-op is the commonest way for a causal sweep to be wrong, and it looks like a zero effect.
    Moving nothing can be right (a state that is the same in every prompt, a subspace with nothing in
    it), so it is told; states that move while no log-probability does cannot.
    """

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str], set[int]] = {}
        self._moved = self._reached = 0.0

    def update(self, scored: ScoredGroup) -> None:
        moved, logprob = scored.values["moved"], scored.values["logprob"]
        for use in scored.group.uses:
            copy = scored.group.copies[use.patched]
            if not _acts(copy) or np.isnan(moved[:, use.patched]).all():
                continue
            far = float(np.nanmax(moved[:, use.patched]))
            if far == 0:
                cell = use.cell
                self._idle.setdefault((cell.intervention, cell.control), set()).add(cell.row["layer"])
            if all(_writes_to_last(edit) for edit in copy.edits):
                self._moved = max(self._moved, far)
                self._reached = max(self._reached, float(np.nanmax(np.abs(logprob[:, use.patched] - logprob[:, 0]))))

    def notes(self, floor: Mapping[str, float]) -> list[str]:
        """Interventions that moved no state of any query; raises EngineError where edits reach no logit.

        floor: of ``NoiseFloor``, over the same groups.
        """
        if self._moved > 1e-3 and self._reached <= floor.get("logprob", 0.0):
            raise EngineError(
                "interventions",
                f"states moved by up to {self._moved:.2g}, log-probabilities by no more than the noise floor "
                f"({self._reached:.2g} nats)",
                "try --engine rows, and report the model's family",
            )
        return [
            f"{name}{f' ({control})' if control else ''} moved no state at layer "
            f"{', '.join(map(str, sorted(layers)))}: its effect there is zero by construction"
            for (name, control), layers in self._idle.items()
        ]


def _is_self(copy: Counterfactual) -> bool:
    return bool(copy.edits) and not copy.against and all(map(_puts_back, copy.edits))


def _puts_back(edit: Edit) -> bool:
    """Whether the state is replaced by itself, as the unedited run has it at the same place."""
    if edit.lender:
        return all(map(_puts_back, edit.lender.edits))
    return edit.operand == OWN_STATE and edit.read is None and edit.op in ("patch", "resample")


def _writes_to_last(edit: Edit) -> bool:
    return edit.position == '"last"' and edit.site.startswith("resid") and edit.op in ("patch", "add")


def _acts(copy: Counterfactual) -> bool:
    """Whether any edit is meant to change something."""
    return any(not _puts_back(e) and e.strength != OPS.get(e.op, "op").neutral for e in copy.edits)
