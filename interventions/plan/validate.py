"""Does the spec mean something? Names against registries, operands against ops; no weights, no tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from patchboard.errors import SpecError
from patchboard.metrics import METRICS
from patchboard.ops import OPS
from patchboard.plan.controls import CONTROLS, options_of
from patchboard.plugin_files import activate
from patchboard.registry import suggest
from patchboard.spec.axes import Point, Study
from patchboard.spec.edits import EditSection
from patchboard.spec.sections import EMBEDDED, Spec
from patchboard.tasks.base import NULL
from patchboard.tasks.files import sha256_of
from patchboard.tasks.resolve import build_family
from patchboard.vectors.fitters import FITTERS

_SOURCES = ("same_task", "other_task", "null_task", "all_tasks")


def check_study(study: Study) -> dict[str, str]:
    """Raises SpecError or TaskError for the first thing that cannot be meant. Its plug-ins are active afterwards.

    Returns the user's data files with their sha256, to which a run is bound.
    """
    activate(study.plugins)
    for path in study.axes:
        if path.split(".")[0] in ("statistics", "name", "version"):
            raise SpecError(path, "cannot be swept: it is the whole run's", "run a spec for each value")
    checked: dict[str, tuple[str, ...]] = {}
    files: dict[str, str] = {}
    for point in study.points:
        spec = point.spec
        key = spec.tasks.model_dump_json() + str(spec.model.name == EMBEDDED)
        if key not in checked:
            family = build_family(spec.tasks, embedded=spec.model.name == EMBEDDED)
            checked[key] = tuple(family.tasks)
            files |= {str(file): sha256_of(file) for file in family.data_files()}
        check_point(point, checked[key])
    return files


def check_point(point: Point, tasks: Sequence[str]) -> None:
    """Raises SpecError for the first thing that cannot be meant with these tasks."""
    _check_lists(point.spec, tasks)
    for variant in point.variants:
        where = f"interventions.{variant.name}"
        several = variant.section.edits is not None
        for i, edit in enumerate(variant.section.parts):
            _check_edit(edit, tasks, f"{where}.edits[{i}]" if several else where)
    for i, control in enumerate(point.spec.controls):
        CONTROLS.get(control.name, f"controls[{i}]").check(point.variants, tasks, f"controls[{i}]")


def _check_lists(spec: Spec, tasks: Sequence[str]) -> None:
    for i, metric in enumerate(spec.metrics):
        if METRICS.get(metric, f"metrics[{i}]").answers_of != "own":
            raise SpecError(f"metrics[{i}]", f"'{metric}' is measured by a control", "add other_task to controls")
        if metric in spec.metrics[:i]:
            raise SpecError(f"metrics[{i}]", f"'{metric}' is given twice", "leave one out")
    names = [control.name for control in spec.controls]
    for i, control in enumerate(spec.controls):
        options_of(control, f"controls[{i}]")
        if control.name in names[:i]:
            raise SpecError(f"controls[{i}]", f"'{control.name}' is given twice", "leave one out")
    if spec.decodability:
        k, points = spec.decodability.k, spec.decodability.prompts * len(tasks)
        if k >= points:
            raise SpecError(
                "decodability.k", f"{k} neighbours of {points} points", f"use at most {points - 1}, or more prompts"
            )


def _check_edit(edit: EditSection, tasks: Sequence[str], where: str) -> None:
    wanted = OPS.get(edit.op, f"{where}.op").operand
    vector = edit.vector
    if wanted != "state" and edit.source is not None:
        raise SpecError(f"{where}.source", f"op {edit.op} takes none", "remove it, or write op: resample")
    if (edit.edges is None) == (wanted == "edges"):
        if edit.edges is None:
            raise SpecError(
                f"{where}.edges", f"is missing, op {edit.op} needs it", "add {from: demo_outputs, to: last}"
            )  # fmt: skip
        raise SpecError(f"{where}.edges", f"op {edit.op} takes none", "remove it, or write op: knock_out")
    if wanted in ("none", "state") and vector is not None:
        raise SpecError(f"{where}.vector", f"op {edit.op} takes none", "remove it")
    if wanted == "state":
        _check_source(f"{where}.source", edit.source or "other_task", tasks)
    if wanted in ("none", "state", "edges"):
        return
    if vector is None:
        raise SpecError(f"{where}.vector", f"is missing, op {edit.op} needs one", _example(wanted))
    fitter = FITTERS.get(vector.kind, f"{where}.vector")
    if fitter.makes != wanted:
        raise SpecError(f"{where}.vector", f"is a {vector.kind}, op {edit.op} needs a {wanted}", _example(wanted))
    if fitter.makes == "subspace" and edit.neurons != "all":
        what = "a subspace is one of whole states, not of some neurons"
        raise SpecError(f"{where}.neurons", what, "leave neurons out, or use another vector")
    fitter.check(vector, edit.site, tasks, where)
    for i, source in enumerate(vector.sources):
        at = f"{where}.vector.{vector.kind}" + (f"[{i}]" if len(vector.sources) > 1 else "")
        _check_source(at, source, tasks, _SOURCES)


def _example(wanted: str) -> str:
    return "add {subspace: tasks, rank: 2}" if wanted == "subspace" else "add {mean: same_task}"


def _check_source(
    at: str, source: str, tasks: Sequence[str], names: Sequence[str] = ("same_task", "other_task", "null_task")
) -> None:
    """names: what a source may be called beside a task's own name."""
    if source == "null_task" and NULL not in tasks:
        raise SpecError(at, "null_task needs Null", "set tasks.include_null: true")
    if source == "other_task" and len([task for task in tasks if task != NULL]) < 2:
        raise SpecError(at, "other_task needs two tasks, the family gives one", "add tasks")
    if source not in (*names, *tasks):
        raise SpecError(at, f"unknown task '{source}'", suggest(source, (*names, *tasks)))
