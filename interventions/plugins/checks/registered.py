"""The promises of each kind of piece, tested on what registries hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from patchboard.engine.families import ARCHITECTURES
from patchboard.metrics import METRICS
from patchboard.ops import OPS
from patchboard.plan.controls import CONTROLS
from patchboard.plugins.checks.control import CONTROL_PROMISES
from patchboard.plugins.checks.fitter import FITTER_PROMISES
from patchboard.plugins.checks.metric import METRIC_PROMISES
from patchboard.plugins.checks.op import OP_PROMISES
from patchboard.plugins.checks.position import POSITION_PROMISES
from patchboard.plugins.checks.promise import Finding, Promise, kept
from patchboard.plugins.checks.task import TASK_PROMISES
from patchboard.registry import Origin, Registry
from patchboard.spec.positions import POSITIONS
from patchboard.tasks.families import FAMILIES
from patchboard.vectors.fitters import FITTERS


def _documented(piece: Any) -> str:
    return "" if (piece.__doc__ or "").strip() else "has no docstring: its first line is what `patchboard ls` says"


DOCUMENTED = Promise("says what it is in its docstring", _documented)

PROMISES: dict[str, tuple[Registry, tuple[Promise, ...]]] = {
    "op": (OPS, (DOCUMENTED, *OP_PROMISES)),
    "metric": (METRICS, (DOCUMENTED, *METRIC_PROMISES)),
    "task": (FAMILIES, (DOCUMENTED, *TASK_PROMISES)),
    "fitter": (FITTERS, (DOCUMENTED, *FITTER_PROMISES)),
    "position": (POSITIONS, POSITION_PROMISES),
    "control": (CONTROLS, (DOCUMENTED, *CONTROL_PROMISES)),
    "family": (ARCHITECTURES, ()),
}
"""Kind -> its registry, what each entry promises. A model family's row is held against each model that is loaded."""


def findings(origin: Origin) -> Iterator[tuple[str, str, list[Finding]]]:
    """(kind, name, how it keeps its promises) of each piece that comes from there."""
    for kind, (registry, promises) in PROMISES.items():
        for name, enrolment in registry.enrolments(origin.kind).items():
            if enrolment.origin == origin:
                yield kind, name, kept(promises, enrolment.entry)
