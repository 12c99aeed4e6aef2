"""The script's text: what each part of the template is filled with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from patchboard.emit.data import cell_of, columns_of, fit_of, places_of, queries_of, recipes_of
from patchboard.emit.literal import literal
from patchboard.emit.operands import expressions
from patchboard.emit.recorded import Recorded
from patchboard.emit.select import Chosen
from patchboard.emit.source import Sources
from patchboard.engine.batches import judge_of
from patchboard.engine.families import ARCHITECTURES, Architecture
from patchboard.engine.sites import MODULES
from patchboard.engine.source import source_of
from patchboard.errors import ModelError, SpecError
from patchboard.metrics import METRICS, Metric
from patchboard.metrics.base import against_source, is_normalised
from patchboard.ops import OPS
from patchboard.plan.cells import OWN_STATE
from patchboard.plan.cells import source_of as donor_of
from patchboard.plan.model import ModelPlan
from patchboard.spec.axes import Study, label
from patchboard.spec.sections import EMBEDDED
from patchboard.spec.sites import SITES
from patchboard.tasks.base import NULL
from patchboard.vectors.base import Recipe
from patchboard.vectors.fitters import FITTERS

CONVERSION = "conversion"
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
    architecture = ARCHITECTURES[plan.facts.family]
    by_fit = {fit.id: [r for r in recipes.values() if r.fit == fit.id] for fit in plan.fits}
    judges = {fit.id: judge_of(fit, plan.fits) for fit in plan.fits if by_fit[fit.id] and fit.judged_by}
    judging = {fit.judged_by: by_fit[fit.id] for fit in plan.fits if fit.id in judges}
    by_fit = {name: own for name, own in by_fit.items() if own or name in judging}
    edits = [edit for use in chosen.uses for edit in use.cell.edits]
    sources = {part: Sources(_NAMES) for part in ("ops", "fit", "metrics")}
    ops = {name: _op(name, sources["ops"]) for name in dict.fromkeys(edit.op for edit in edits)}
    made = expressions(recipes, sources["fit"], columns_of(plan.facts))
    metrics = _metrics(chosen, sources["metrics"])
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
    has = _operands(edits, recipes)
    imports = {line for each in sources.values() for line in each.imports} | _imports(bool(recipes))
    text = _TEMPLATES.get_template("script.py.j2").render(
        **has,
        **_model(plan, run),
        title=f"{study.name}: {len(cells)} cell{'s' * (len(cells) > 1)} in plain nnsight, a pass a prompt and cell.",
        about=_about(chosen, run, bool(recipes), fit_file),
        spec=spec.replace("\\", "/").replace('"', "'"),
        digest=study.digest,
        versions=versions,
        standard_imports=_sorted(line for line in imports if not _is_foreign(line)),
        imports=_sorted(line for line in imports if _is_foreign(line)),
        op_definitions=sources["ops"].definitions.values(),
        fit_definitions=sources["fit"].definitions.values(),
        metric_definitions=sources["metrics"].definitions.values(),
        blocks=f"{architecture.decoder}.{architecture.blocks}",
        attention_out=architecture.attention_out,
        input_sites=_sites(architecture, [s for s in SITES if s in sites and _end(s) == "input"]),
        output_sites=_sites(architecture, [s for s in SITES if s in sites and _end(s) == "output"]),
        neurons=plan.facts.neurons,
        place=_place(edits),
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


def _op(name: str, sources: Sources) -> str:
    op = OPS.get(name, "op")
    return sources.add(op.apply, name, f"op {name}", op.__doc__ or "")


def _of_other_runs(metric: type[Metric]) -> bool:
    """Whether it needs another run than the clean and the edited one, and is left out of scripts."""
    return against_source(metric) or is_normalised(metric)


def _metrics(chosen: Chosen, sources: Sources) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """The script's dictionaries of metrics: their name, then (metric, score, combine) of each entry."""
    asked = chosen.groups[0].group.metrics
    named = {"METRICS": [name for name in asked if name != CONVERSION and not _of_other_runs(METRICS[name])]}
    if not named["METRICS"]:
        what = f"a script compares a run with the clean one alone, which {asked[0]} does not"
        raise SpecError("metrics", what, "add logit_difference or another metric, or emit a spec that has one")
    if any(use.cell.converts_to for use in chosen.uses):
        named["CONVERSION"] = [CONVERSION]
    metrics = []
    for dictionary, names in named.items():
        entries = []
        for name in names:
            metric = METRICS.get(name, "metrics")
            score = sources.add(metric.score, f"score_{name}", f"metric {name}", metric.__doc__ or "")
            entries.append((name, score, sources.add(metric.combine, f"combine_{name}", f"metric {name}")))
        metrics.append((dictionary, entries))
    return metrics


def _operands(edits: Iterable[Any], recipes: Mapping[str, Recipe]) -> dict[str, Any]:
    """Which kinds of operand the script must know."""
    operands = {edit.operand for edit in edits}
    kinds = {recipe.kind for recipe in recipes.values()}
    made = {FITTERS.get(kind, "vector").makes for kind in kinds}
    has = {
        "has_vector": "vector" in made,
        "has_subspace": "subspace" in made,
        "has_self": OWN_STATE in operands,
        "has_donors": any(donor_of(edit) for edit in edits),
        "has_none": "" in operands,
    }
    return has | {
        "has_operands": bool(operands - {""}),
        "has_leace": any(recipe.method == "leace" for recipe in recipes.values()),
        "has_function": "function_vector" in kinds,
    }


def _imports(fitted: bool) -> set[str]:
    lines = {"import numpy as np", "import torch", "from nnsight import TransformersModel"}
    lines |= {"from transformers import AutoTokenizer"}
    return lines | ({"import json", "from pathlib import Path"} if fitted else set())


def _is_foreign(line: str) -> bool:
    return line.split()[1] in ("numpy", "torch", "nnsight", "transformers")


def _sorted(lines: Iterable[str]) -> list[str]:
    """In isort's order: whole modules first."""
    return sorted(lines, key=lambda line: (line.startswith("from"), line.lower()))


def _model(plan: ModelPlan, run: Recorded | None) -> dict[str, Any]:
    section = plan.section
    known = {"name", "revision", "dtype"}
    unknown = [n for n, f in type(section).model_fields.items() if n not in known and getattr(section, n) != f.default]
    if unknown:
        raise ModelError(f"model.{unknown[0]}", "cannot be written out in a script", "emit the spec without it")
    source, options = source_of(section)
    if set(options) - {"revision"}:
        raise ModelError(
            "model.name", f"'{section.name}' cannot be written out in a script", "emit a folder or Hub name"
        )
    folder = Path(source).is_dir()
    served = run.dtype(plan) if run else ""
    dtype = section.dtype if section.dtype != "auto" else "float32"
    unsure = not served and section.dtype == "auto" and section.name != EMBEDDED
    comment = (
        "The model that comes with patchboard; any copy of this folder will do." if section.name == EMBEDDED else ""
    )
    if section.packaged is not None:
        comment = f"The packaged model {section.name}, unpacked; any copy of this folder will do."
    return {
        "model": str(Path(source).resolve()) if folder else source,
        "model_comment": comment,
        "revision": options.get("revision", "") if not folder else "",
        "revision_argument": f", revision={json.dumps(options['revision'])}" if "revision" in options else "",
        "dtype": served or dtype,
        "dtype_comment": "  # as on a CPU; on a GPU a run takes the checkpoint's own" if unsure else "",
    }


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


def _sites(architecture: Architecture, sites: Sequence[str]) -> list[tuple[str, str]]:
    """(site, path of its module from the block)."""
    paths = {site: getattr(architecture, MODULES[site][0]) for site in sites if site in MODULES}
    return [(site, f".{paths[site]}" if site in paths else "") for site in sites]


def _end(site: str) -> str:
    """Whether its states are a module's input or its output."""
    return MODULES[site][1] if site in MODULES else "input" if site == "resid_pre" else "output"


def _place(edits: Iterable[Any]) -> str:
    """The index of the edited states of a prompt: tokens ``at``, and the part of each that the edit names."""
    edits = list(edits)
    if any(edit.neurons for edit in edits):
        return "place_of(edit, at)"
    return '0, at, slice(*edit.get("columns", (None,)))' if any(edit.head >= 0 for edit in edits) else "0, at"


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
