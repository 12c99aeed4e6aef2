"""Does the spec mean something? Names against registries, operands against ops; no weights, no tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from patchboard.errors import SpecError
from patchboard.metrics import METRICS
from patchboard.metrics.base import against_source, is_normalised
from patchboard.ops import OPS
from patchboard.plan.cells import CLEAN
from patchboard.plan.controls import CONTROLS, options_of
from patchboard.plan.controls.unrelated import Texts
from patchboard.plan.guardedness import erases
from patchboard.plan.ranking import ranking_file
from patchboard.plan.screen import check_screen_metric
from patchboard.plan.validate_edit import Rows, check_edit
from patchboard.plan.validate_learned import check_uncorrupted
from patchboard.plan.validate_texts import check_generate
from patchboard.plugin_files import activate
from patchboard.probes import FOLDS, PROBES
from patchboard.registry import suggest
from patchboard.spec.axes import Point, Study
from patchboard.spec.sections import EMBEDDED, DecodabilitySection, Spec
from patchboard.tasks.files import sha256_of
from patchboard.tasks.resolve import build_family
from patchboard.tasks.sets import BASE
from patchboard.vectors.dictionaries.files import files_of, weights_named
from patchboard.vectors.files.located import located

_WHOLE_RUNS = ("statistics", "screen", "generate", "guardedness", "outcomes", "name", "version")
"""Sections and fields that no point of a sweep has for itself."""


def check_study(study: Study) -> dict[str, str]:
    """Raises SpecError or TaskError for the first thing that cannot be meant. Its plug-ins are active afterwards.

    Returns the user's data files with their sha256, to which a run is bound.
    """
    activate(study.plugins)
    for path in study.axes:
        if path.split(".")[0] in _WHOLE_RUNS:
            raise SpecError(path, "cannot be swept: it is the whole run's", "run a spec for each value")
    checked: dict[str, Rows] = {}
    files: dict[str, str] = {}
    for point in study.points:
        spec = point.spec
        key = spec.tasks.model_dump_json() + str(spec.model.name == EMBEDDED)
        if key not in checked:
            family = build_family(spec.tasks, embedded=spec.model.name == EMBEDDED)
            checked[key] = _rows_of(family)
            files |= {str(file): sha256_of(file) for file in family.data_files()}
        files |= _rankings(point) | _vector_files(point) | _text_files(point)
        check_point(point, checked[key])
    return files


def _rankings(point: Point) -> dict[str, str]:
    """The files of runs by whose effects heads are ranked."""
    keeps = {variant.where: variant.section.keep for variant in point.variants}
    ranked = (keep and ranking_file(keep, where) for where, keep in keeps.items())
    return {str(file): sha256_of(file) for file in ranked if file}


def _vector_files(point: Point) -> dict[str, str]:
    """Files that the point's vectors come from, or are fitted on -> sha256. The Hub is asked for its own anew."""
    named = [*files_named(point, "file"), *files_named(point, "contrast"), *_dictionaries(point)]
    files = [located(file, where, ask=True) for where, file in named]
    return {file.name: file.sha256 for file in files}


def _text_files(point: Point) -> dict[str, str]:
    """Files of texts that controls name -> sha256."""
    options = [
        (options_of(each, f"controls[{i}]"), f"controls[{i}].texts") for i, each in enumerate(point.spec.controls)
    ]
    files = [located(each.texts, where, ask=True) for each, where in options if isinstance(each, Texts) and each.texts]
    return {file.name: file.sha256 for file in files}


def _dictionaries(point: Point) -> Iterator[tuple[str, str]]:
    """(field path, file) of all weights and configs that the point's dictionaries may be in."""
    for variant in point.variants:
        for at, edit in variant.located_edits:
            if edit.vector is not None and edit.vector.sae is not None:
                where = f"{at}.vector.sae"
                told = edit.vector.fitted_at and edit.vector.fitted_at.layer
                for weights in weights_named(edit.vector.sae, edit.layers if told is None else told, where):
                    yield from ((where, file) for file in files_of(weights))


def files_named(point: Point, kind: Literal["file", "contrast"]) -> Iterator[tuple[str, str]]:
    """(field path, file as the spec has it) of each vector of that kind."""
    for variant in point.variants:
        for where, edit in variant.located_edits:
            file = getattr(edit.vector, kind) if edit.vector is not None else None
            if file is not None:
                yield f"{where}.vector.{kind}", file


def _rows_of(family: Any) -> Rows:
    """Families that mark spans or have sources name them in methods of their options."""
    spans, sources = (
        getattr(family, kind)(family.options) if hasattr(family, kind) else () for kind in ("spans", "sources")
    )
    return Rows(tuple(family.tasks), tuple(spans), tuple(sources))


def check_point(point: Point, rows: Rows) -> None:
    """Raises SpecError for the first thing that cannot be meant with these rows."""
    tasks = rows.tasks
    _check_lists(point.spec, tasks)
    rows = _corrupted(rows, point.spec.prompts.corrupted)
    for variant in point.variants:
        for where, edit in variant.located_edits:
            if edit.vector is not None:
                check_uncorrupted(edit.vector, point.spec, where)
            check_edit(edit, rows, where)
    _check_metrics(point)
    check_generate(point)
    _check_guardedness(point)
    for i, control in enumerate(point.spec.controls):
        CONTROLS.get(control.name, f"controls[{i}]").check(point.variants, tasks, f"controls[{i}]")


def _check_metrics(point: Point) -> None:
    """Raises SpecError for a metric that needs another run than the clean one where no edit takes states of one."""
    sections = [edit for variant in point.variants for edit in variant.section.parts]
    sourced = any(edit.source.name != CLEAN if edit.source else OPS[edit.op].operand == "state" for edit in sections)
    for i, name in enumerate(point.spec.metrics):
        metric = METRICS[name]
        both_ends = sourced or point.spec.prompts.corrupted is not None
        if not sections or not (against_source(metric) and not sourced or is_normalised(metric) and not both_ends):
            continue
        what = f"'{name}' needs an edit with the states of another prompt, there is none"
        raise SpecError(f"metrics[{i}]", what, "write source: NAME in an intervention, or leave it out")


def _check_guardedness(point: Point) -> None:
    section = point.spec.guardedness
    if section is None:
        return
    for i, probe in enumerate(section.probes):
        PROBES.get(probe, f"guardedness.probes[{i}]")
    if section.prompts < FOLDS:
        what = f"{section.prompts} prompts a label, and probes are cross-validated in {FOLDS} folds"
        raise SpecError("guardedness.prompts", what, f"use at least {FOLDS}")
    if not any(map(erases, point.variants)):
        raise SpecError("guardedness", "finds no intervention that erases", "add op: ablate, or leave it out")


def _check_lists(spec: Spec, tasks: Sequence[str]) -> None:
    for i, metric in enumerate(spec.metrics):
        if METRICS.get(metric, f"metrics[{i}]").answers_of != "own":
            raise SpecError(f"metrics[{i}]", f"'{metric}' is measured by a control", "add other_task to controls")
        if metric in spec.metrics[:i]:
            raise SpecError(f"metrics[{i}]", f"'{metric}' is given twice", "leave one out")
    if spec.screen is not None:
        check_screen_metric(spec.metrics)
    names = [control.name for control in spec.controls]
    for i, control in enumerate(spec.controls):
        options_of(control, f"controls[{i}]")
        if control.name in names[:i]:
            raise SpecError(f"controls[{i}]", f"'{control.name}' is given twice", "leave one out")
    for i, probe in enumerate(spec.decodability.probes if spec.decodability else ()):
        PROBES.get(probe, f"decodability.probes[{i}]")
    if spec.decodability:
        if spec.decodability.probes and spec.decodability.prompts < FOLDS:
            what = f"{spec.decodability.prompts} prompts a label, and probes are cross-validated in {FOLDS} folds"
            raise SpecError("decodability.prompts", what, f"use at least {FOLDS}, or leave probes out")
        k, points = spec.decodability.k, spec.decodability.prompts * len(tasks)
        if k >= points:
            raise SpecError(
                "decodability.k", f"{k} neighbours of {points} points", f"use at most {points - 1}, or more prompts"
            )


def refuse_floors(section: DecodabilitySection | None, against: Mapping[str, tuple[str, str]]) -> None:
    """Raises SpecError for what CD is to be held against where that cannot be had.

    against: ``twin``, ``shuffled`` and ``probes`` -> what stands against it, and what to do.
    """
    for field, (what, remedy) in against.items():
        value = getattr(section, field, None)
        if value:
            raise SpecError(f"decodability.{field}", f"found {json.dumps(value)}, and {what}", remedy)


def _corrupted(rows: Rows, name: str | None) -> Rows:
    """What corrupted rows have: the row as it was, in place of the source whose input they have."""
    if name is None:
        return rows
    if name not in rows.sources:
        raise SpecError("prompts.corrupted", f"the task family has no source '{name}'", _choose(name, rows.sources))
    return replace(rows, sources=(BASE, *(source for source in rows.sources if source != name)))


def _choose(name: str, known: Sequence[str]) -> str:
    return suggest(name, known) if known else "leave it out, or choose a family whose rows have sources"
