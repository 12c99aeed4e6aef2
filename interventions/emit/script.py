"""The script's text: what each part of the template is filled with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2

from patchboard.emit.data import cell_of, columns_of, fit_of, places_of, queries_of, recipes_of
from patchboard.emit.definitions import import_lines, metrics_of, op_named, operand_kinds
from patchboard.emit.literal import literal
from patchboard.emit.model_lines import index_of, model_lines, site_lines
from patchboard.emit.operands import expressions
from patchboard.emit.recorded import Recorded
from patchboard.emit.select import Chosen
from patchboard.emit.source import Sources
from patchboard.engine.batches import judge_of
from patchboard.plan.cells import source_of as donor_of
from patchboard.spec.axes import Study, label
from patchboard.tasks.base import NULL

MARK = "Written by `patchboard emit`"
"""Stands in every file that is written: such files may be written over."""

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("patchboard.emit", "."),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
    autoescape=False,  # it is no HTML
)
_TEMPLATES.filters["text"] = lambda value: json.dumps(value, ensure_ascii=False)

_NAMES = frozenset(
    "json Path np torch AutoTokenizer TransformersModel SubspaceTensors REMOTE MODEL DTYPE model states tokens_of "
    "run operand_of place_of clean_states fit_pass states_of means leace function_vector FIT FIT_FILE PASSED PLACES "
    "JUDGES fitted METRICS CONVERSION measured QUERIES CELLS VECTORS values_of shown main".split()
)
"""What the template itself defines."""


@dataclass(frozen=True)
class Script:
    """A script's text, and the file of fit prompts that it reads, empty where it needs none."""

    text: str
    fit: str


def script_of(
    study: Study, chosen: Chosen, run: Recorded | None, spec: str, fit_file: str, versions: Mapping[str, str]
) -> Script:
    """spec: what the header calls the spec. fit_file: name of the file of fit prompts, in the script's folder.

    Raises PatchboardError for what cannot be written out.
    """
    plan, recipes = chosen.plan, recipes_of(chosen)
    by_fit = {fit.id: [r for r in recipes.values() if r.fit == fit.id] for fit in plan.fits}
    judges = {fit.id: judge_of(fit, plan.fits) for fit in plan.fits if by_fit[fit.id] and fit.judged_by}
    judging = {fit.judged_by: by_fit[fit.id] for fit in plan.fits if fit.id in judges}
    by_fit = {name: own for name, own in by_fit.items() if own or name in judging}
    edits = [edit for use in chosen.uses for edit in use.cell.edits]
    sources = {part: Sources(_NAMES) for part in ("ops", "fit", "metrics")}
    ops = {name: op_named(name, sources["ops"]) for name in dict.fromkeys(edit.op for edit in edits)}
    made = expressions(recipes, sources["fit"], columns_of(plan.facts))
    metrics = metrics_of(chosen, sources["metrics"])
    cells = []
    for part in chosen.groups:
        for use in part.uses:
            cell = cell_of(use.cell, part.group.task, ops, plan)
            cells.append(cell | ({"run": run.values(part, use.cell)} if run else {}))
    sites = (
        {edit.site for edit in edits}
        | {edit.read.site for edit in edits if edit.read}
        | {r.place.site for r in recipes.values()}
    )
    text = _TEMPLATES.get_template("script.py.j2").render(
        **operand_kinds(edits, recipes),
        **model_lines(plan, run),
        **site_lines(plan.facts, sites),
        **import_lines(sources.values(), bool(recipes)),
        title=f"{study.name}: {len(cells)} cell{'s' * (len(cells) > 1)} in plain nnsight, a pass a prompt and cell.",
        about=_about(chosen, run, bool(recipes), fit_file),
        spec=spec.replace("\\", "/").replace('"', "'"),
        digest=study.digest,
        versions=versions,
        op_definitions=sources["ops"].definitions.values(),
        fit_definitions=sources["fit"].definitions.values(),
        metric_definitions=sources["metrics"].definitions.values(),
        place=index_of(edits),
        reads=any(edit.read for edit in edits),
        recipes=list(made.items()),
        places=literal({name: places_of(own) for name, own in by_fit.items()}),
        judges=literal(judges) if judges else "",
        fit_file=fit_file,
        null=NULL,
        metrics=metrics,
        conversion=len(metrics) > 1,
        query_notes=_query_notes(chosen),
        queries=literal({part.group.task: queries_of(part) for part in chosen.groups}),
        cells=literal(cells),
        recorded=run is not None,
    )
    fits = {fit.id: fit_of(fit, [*by_fit[fit.id], *judging.get(fit.id, ())]) for fit in plan.fits if fit.id in by_fit}
    return Script(_tolerated(text), _fit_text(fits, study) if fits else "")


def _tolerated(text: str) -> str:
    """A line that long names make longer than any style allows is no fault of the script."""
    if all(len(line) <= 120 for line in text.splitlines()):
        return text
    return text.replace("\nimport ", "\n# ruff: noqa: E501\n\nimport ", 1)


def _about(chosen: Chosen, run: Recorded | None, fitted: bool, fit_file: str) -> list[str]:
    at = [f"{path}={label(value)}" for path, value in chosen.setting.items()]
    lines = [f"Of the spec's sweeps: {', '.join(at)}."] if at else []
    lines += [f"Vectors are fitted here, on the prompts in {fit_file} beside this file."] if fitted else []
    lines += [f"Left out: {line}." for line in chosen.left_out]
    if run is None:
        return [*lines, "No finished run was found, so the values stand alone."]
    return [*lines, f"Beside each value stands that of the run in {run.folder.as_posix()}.".replace('"', "'")]


def _query_notes(chosen: Chosen) -> str:
    notes = ""
    if any(use.cell.converts_to for use in chosen.uses):
        notes += ";\n# as: the answer under another task"
    if any(donor_of(edit) for use in chosen.uses for edit in use.cell.edits):
        notes += ";\n# donors: prompts whose states are put in"
    return notes


def _fit_text(fits: Mapping[str, Mapping[str, list[Any]]], study: Study) -> str:
    """JSON, one prompt a line."""
    head = json.dumps({"about": f"{MARK}: fit prompts of {study.name}, digest {study.digest[:16]}"})
    parts = []
    for name, tasks in fits.items():
        rows = [
            f" {json.dumps(task)}: [\n" + ",\n".join(f"  {json.dumps(prompt)}" for prompt in prompts) + "\n ]"
            for task, prompts in tasks.items()
        ]
        parts.append(f"{json.dumps(name)}: {{\n" + ",\n".join(rows) + "\n}")
    return head[:-1] + ",\n" + ",\n".join(parts) + "\n}\n"
