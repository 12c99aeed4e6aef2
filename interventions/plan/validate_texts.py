"""Can texts be written under these edits? What a section on texts asks of the interventions; no weights."""

from __future__ import annotations

from patchboard.errors import SpecError
from patchboard.ops import OPS
from patchboard.registry import suggest
from patchboard.spec.axes import Point
from patchboard.spec.edits import EditSection
from patchboard.spec.sites import PATTERN

_REMEDY = "name other interventions in generate.interventions"


def check_generate(point: Point) -> None:
    """Raises SpecError for an intervention that there is not, or whose edits say nothing of tokens that are new."""
    section = point.spec.generate
    if section is None:
        return
    names = [variant.name for variant in point.variants]
    for i, name in enumerate(section.interventions or ()):
        if name not in names:
            remedy = suggest(name, names)
            raise SpecError(f"generate.interventions[{i}]", f"there is no intervention '{name}'", remedy)
    for variant in point.variants:
        if section.interventions is None or variant.name in section.interventions:
            for edit in variant.section.parts:
                _check_edit(variant.name, edit, section.when)


def _check_edit(name: str, edit: EditSection, when: str) -> None:
    wanted = OPS[edit.op].operand
    if wanted in ("edges", "path") or edit.site == PATTERN:
        of = f"site {PATTERN}" if edit.site == PATTERN else f"op {edit.op}"
        what = f"{name} is of {of}, which is told by tokens of a given sequence, and a text's are not given"
        raise SpecError("generate", what, _REMEDY)
    if when == "prompt":
        return
    if wanted == "state" or edit.source is not None:
        what = f"found {when}, and {name} puts in states of a prompt, which has none for tokens that are new"
        raise SpecError("generate.when", what, f"write when: prompt, or {_REMEDY}")
    if wanted == "noise":
        what = f"found {when}, and {name} adds noise, which is drawn for the tokens of a prompt"
        raise SpecError("generate.when", what, f"write when: prompt, or {_REMEDY}")
