"""What a script defines before its cells: ops and metrics by their own source, imports, kinds of operand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from patchboard.emit.select import Chosen
from patchboard.emit.source import Sources
from patchboard.errors import SpecError
from patchboard.metrics import METRICS, Metric
from patchboard.metrics.base import against_source, is_normalised
from patchboard.ops import OPS
from patchboard.plan.cells import OWN_STATE
from patchboard.plan.cells import source_of as donor_of
from patchboard.vectors.base import Recipe
from patchboard.vectors.fitters import FITTERS

CONVERSION = "conversion"


def op_named(name: str, sources: Sources) -> str:
    op = OPS.get(name, "op")
    return sources.add(op.apply, name, f"op {name}", op.__doc__ or "")


def _of_other_runs(metric: type[Metric]) -> bool:
    """Whether it needs another run than the clean and the edited one, and is left out of scripts."""
    return against_source(metric) or is_normalised(metric)


def metrics_of(chosen: Chosen, sources: Sources) -> list[tuple[str, list[tuple[str, str, str]]]]:
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


def operand_kinds(edits: Iterable[Any], recipes: Mapping[str, Recipe]) -> dict[str, Any]:
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


def import_lines(sources: Iterable[Sources], fitted: bool) -> dict[str, list[str]]:
    """Those of the standard library, then others. fitted: whether the script fits vectors."""
    lines = {"import numpy as np", "import torch", "from nnsight import TransformersModel"}
    lines |= {"from transformers import AutoTokenizer"}
    lines |= {"import json", "from pathlib import Path"} if fitted else set()
    lines |= {line for each in sources for line in each.imports}
    return {
        "standard_imports": _sorted(line for line in lines if not _is_foreign(line)),
        "imports": _sorted(line for line in lines if _is_foreign(line)),
    }


def _is_foreign(line: str) -> bool:
    return line.split()[1] in ("numpy", "torch", "nnsight", "transformers")


def _sorted(lines: Iterable[str]) -> list[str]:
    """In isort's order: whole modules first."""
    return sorted(lines, key=lambda line: (line.startswith("from"), line.lower()))
