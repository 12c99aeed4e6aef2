"""Fitted vectors in the run folder, and what must be told of how they were fitted."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from patchboard.execution.model_run import ModelRun
from patchboard.store.vectors import save_vectors
from patchboard.vectors.base import Operand


def write_vectors(run: ModelRun, name: str, operands: Mapping[str, Operand]) -> None:
    """Write fitted operands, stamped with the run, the model and their places. name: of the file."""
    plan = run.plan
    places = {
        key: {"site": r.place.site, "position": r.place.position, "layer": r.layer}
        | ({"heads": [[block, start // plan.facts.head_dim] for block, start, _ in r.heads]} if r.heads else {})
        for key, r in plan.recipes.items()
    }
    model = {"model": plan.section.name, "revision": plan.section.revision, **plan.section.changes}
    save_vectors(run.folder.path / name, dict(operands), {"digest": run.folder.digest, **model, "places": places})


def notes_on_unanswered(run: ModelRun, tasks: Collection[str]) -> list[str]:
    """Where `only: correct` could not be kept. tasks: those of which no fit prompt was answered correctly."""
    if not tasks:
        return []
    names = ", ".join(sorted(tasks))
    return [f"{run.note_head}no fit prompt of {names} was answered correctly: vectors use all fit prompts (only: all)"]
