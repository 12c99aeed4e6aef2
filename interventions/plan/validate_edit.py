"""Does an edit mean something? Its fields against its op, its names against what the rows of the family have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patchboard.errors import SpecError
from patchboard.ops import OPS, fitted_part, kinds_of
from patchboard.plan.cells import CLEAN
from patchboard.plan.validate_learned import check_learned
from patchboard.registry import suggest
from patchboard.spec.edits import EditSection, SourceSection
from patchboard.spec.positions import check_position_names
from patchboard.spec.sites import PATTERN
from patchboard.tasks.base import NULL
from patchboard.vectors.fitters import FITTERS

_SOURCES = ("same_task", "other_task", "null_task", "all_tasks")


@dataclass(frozen=True)
class Rows:
    """What a family's rows have, by name."""

    tasks: tuple[str, ...]
    spans: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


def check_edit(edit: EditSection, rows: Rows, where: str) -> None:
    """Raises SpecError for the first thing that cannot be meant with these rows."""
    OPS.get(edit.op, f"{where}.op")
    _check_place(edit, rows, where)
    _check_operand(edit, rows, where)


def _check_place(edit: EditSection, rows: Rows, where: str) -> None:
    """Its tokens, edges or path, and whether its op has such."""
    wanted = OPS[edit.op].operand
    check_position_names(edit.position, rows.spans, f"{where}.position")
    if edit.draw and wanted != "noise":
        raise SpecError(f"{where}.draw", f"op {edit.op} draws nothing", "remove it, or write op: noise")
    if (edit.edges is None) == (wanted == "edges"):
        if edit.edges is None:
            raise SpecError(
                f"{where}.edges", f"is missing, op {edit.op} needs it", "add {from: demo_outputs, to: last}"
            )  # fmt: skip
        raise SpecError(f"{where}.edges", f"op {edit.op} takes none", "remove it, or write op: knock_out")
    if (edit.sender is None) == (wanted == "path"):
        if edit.sender is None:
            raise SpecError(f"{where}.sender", f"is missing, op {edit.op} needs it", "add {site: head}")
        raise SpecError(f"{where}.sender", f"op {edit.op} takes none", "remove it, or write op: path")
    if edit.sender is not None:
        check_position_names(edit.sender.position, rows.spans, f"{where}.sender.position")
        for i, receiver in enumerate(edit.receivers or ()):
            check_position_names(receiver.position, rows.spans, f"{where}.receivers[{i}].position")
        if edit.source is None:
            raise SpecError(
                f"{where}.source", f"is missing, op {edit.op} needs it", "add a row's source, or other_task"
            )
    if edit.edges is not None:
        for end, position in zip(("from", "to"), edit.edges.ends, strict=True):
            check_position_names(position, rows.spans, f"{where}.edges.{end}")


def _check_operand(edit: EditSection, rows: Rows, where: str) -> None:
    """Its vector, or the source of its states."""
    wanted, vector, source, tasks = OPS[edit.op].operand, edit.vector, edit.source, rows.tasks
    _check_pattern(edit, where)
    if wanted in ("none", "noise", "subspace", "features") and source is not None:
        raise SpecError(f"{where}.source", f"op {edit.op} takes none", "remove it, or write op: resample")
    if wanted in ("none", "noise", "state", "path") and vector is not None:
        raise SpecError(f"{where}.vector", f"op {edit.op} takes none", "remove it")
    both = wanted == "subspace and state"
    if source is not None and vector is not None and not both:
        raise SpecError(f"{where}.source", "stands beside a vector, an edit takes one of them", "remove one")
    if both and source is None:
        what = f"is missing, op {edit.op} takes the part of another run's state"
        raise SpecError(f"{where}.source", what, "add other_task, or a row's source")
    if wanted == "state" or source is not None:
        _check_state(source or SourceSection(name="other_task"), rows, f"{where}.source")
    if wanted in ("none", "noise", "edges", "state") or (source is not None and not both):
        return
    fitted = fitted_part(edit.op)
    if vector is None:
        raise SpecError(f"{where}.vector", f"is missing, op {edit.op} needs one", _example(fitted))
    fitter = FITTERS.get(vector.kind, f"{where}.vector")
    made = fitter.made(vector, tasks, where)
    if vector.value is not None and wanted != "features":
        raise SpecError(f"{where}.vector.value", f"op {edit.op} sets nothing to a value", "remove it, or use strength")
    if made not in kinds_of(edit.op):
        what = f"is a {made if vector.file else vector.kind}, op {edit.op} needs a {fitted}"
        raise SpecError(f"{where}.vector", what, _example(fitted))
    if made == "subspace" and edit.neurons != "all":
        what = "a subspace is one of whole states, not of some neurons"
        raise SpecError(f"{where}.neurons", what, "leave neurons out, or use another vector")
    fitter.check(vector, edit.site, tasks, where)
    if vector.is_learned:
        check_learned(edit, vector, rows.sources, tasks, where)
    for i, source in enumerate(vector.sources):
        at = f"{where}.vector.{'select' if vector.select else vector.kind}" + (
            f"[{i}]" if len(vector.sources) > 1 else ""
        )
        _check_source(at, source, tasks, _SOURCES)


def _check_pattern(edit: EditSection, where: str) -> None:
    """Attention weights are put in place of others, at their own place, and nothing else is done with them."""
    source = edit.source
    if edit.site != PATTERN:
        if source is not None and source.site == PATTERN:
            what = f"found {PATTERN}, and attention weights are no state to put in at {edit.site}"
            raise SpecError(f"{where}.source.site", what, f"write site: {PATTERN} beside source, or another one here")
        return
    if edit.op not in ("patch", "resample"):
        what = f"{edit.op} changes states, and at site {PATTERN} there are attention weights"
        raise SpecError(f"{where}.op", what, "write patch with a source, or another site")
    if edit.vector is not None:
        what = f"found one at site {PATTERN}, which takes the weights of a run"
        raise SpecError(f"{where}.vector", what, "write source: clean, or a row's source, in its place")
    if source is None and edit.op == "patch":
        what = f"is missing, site {PATTERN} takes the weights of a run"
        raise SpecError(f"{where}.source", what, "add clean, or a row's source")
    for field in ("layer", "site", "position", "align"):
        if source is not None and getattr(source, field) is not None:
            what = f"found {getattr(source, field)}, and attention weights are read where they are put in"
            raise SpecError(f"{where}.source.{field}", what, "leave it out")


_OTHERWISE = {
    "zero": "write op: zero",
    "mean": "write vector: {mean: same_task} in its place",
    "noise": "write op: noise",
}
"""What is called an operand elsewhere and is no state of a prompt -> how it is written here."""


def _check_state(source: SourceSection, rows: Rows, where: str) -> None:
    if source.position is not None:
        check_position_names(source.position, rows.spans, f"{where}.position")
    if source.name in _OTHERWISE and source.name not in (*rows.sources, *rows.tasks):
        raise SpecError(where, f"{source.name} is no prompt, whose state could be taken", _OTHERWISE[source.name])
    if source.name not in (CLEAN, *rows.sources):
        names = ("same_task", "other_task", "null_task", CLEAN, *rows.sources)
        _check_source(where, source.name, rows.tasks, names)


def _example(wanted: str) -> str:
    examples = {"subspace": "{subspace: tasks, rank: 2}", "features": "{sae: PATH, features: [0]}"}
    return f"add {examples.get(wanted, '{mean: same_task}')}"


def _check_source(at: str, source: str, tasks: Sequence[str], names: Sequence[str]) -> None:
    """names: what a source may be called beside a task's own name."""
    if source == "null_task" and NULL not in tasks:
        raise SpecError(at, "null_task needs Null", "set tasks.include_null: true")
    if source == "other_task" and len([task for task in tasks if task != NULL]) < 2:
        raise SpecError(at, "other_task needs two tasks, the family gives one", "add tasks")
    if source not in (*names, *tasks):
        raise SpecError(at, f"unknown task '{source}'", suggest(source, (*names, *tasks)))
