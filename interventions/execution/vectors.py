"""Fitted vectors in the run folder, and what must be told of how they were fitted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from patchboard.execution.identity import name_of
from patchboard.execution.model_run import ModelRun
from patchboard.ops import SubspaceTensors
from patchboard.plan.model import Fit
from patchboard.store.vectors import save_vectors
from patchboard.vectors.base import Operand, Recipe
from patchboard.vectors.dictionaries.choice import Choice
from patchboard.vectors.fitters import learned_kind


def write_vectors(
    run: ModelRun, name: str, operands: Mapping[str, Operand], chosen: Mapping[str, Choice] | None = None
) -> None:
    """Write fitted operands, stamped with the run, the model and their places. name: of the file. chosen: the features
    of those of a dictionary."""
    plan = run.plan
    fits = {fit.id: fit for fit in plan.fits}
    places = {
        key: _place(recipe, _rank(operands.get(key), recipe), plan.facts.head_dim, fits)
        for key, recipe in plan.recipes.items()
    }
    for key, choice in (chosen or {}).items():
        places[key]["fitted"] |= {"features": choice.rows()}
    model = {"model": plan.section.name, "revision": plan.section.revision, **plan.section.changes}
    identity = run.folder.manifest["identity"]
    noted = identity.get("models", identity.get("served", {})).get(name_of(plan.section), {})
    stamp = {"digest": run.folder.digest, **model, "contents": noted, "tasks": list(plan.tasks.values())}
    save_vectors(run.folder.path / name, dict(operands), {**stamp, "places": places})


def _rank(operand: Operand | None, recipe: Recipe) -> int:
    """Of a subspace that is learned its own, which may be less than what was asked for."""
    return operand.right.shape[0] if isinstance(operand, SubspaceTensors) and learned_kind(recipe.kind) else recipe.rank


def _place(recipe: Recipe, rank: int, head_dim: int, fits: Mapping[str, Fit]) -> dict[str, Any]:
    """Where an operand is of, how it was fitted and on what."""
    place: dict[str, Any] = {"site": recipe.place.site, "position": recipe.place.position, "layer": recipe.layer}
    if recipe.heads:
        place["heads"] = [[block, start // head_dim] for block, start, _ in recipe.heads]
    if recipe.neurons:
        place["neurons"] = list(recipe.neurons)
    if recipe.given is not None:
        given = recipe.given
        fitted: dict[str, Any] = {"file": given.file, "key": given.key, "sha256": given.sha256, "commit": given.commit}
    else:
        fit = fits[recipe.fit]
        drawn = {task: len(fit.prompts[task]) for task in (*recipe.plus, *recipe.minus)}
        fitted = {"plus": recipe.plus, "minus": recipe.minus, "only": recipe.only, "shots": fit.shots, "prompts": drawn}
    if recipe.dictionary is not None:
        source = recipe.dictionary
        fitted |= {"file": source.file, "sha256": source.sha256, "commit": source.commit}
    if learned_kind(recipe.kind):
        fitted = {name: told for name, told in fitted.items() if name not in ("only", "minus")} | dict(recipe.options)
        fitted |= {"rank": rank} if rank else {}
    elif recipe.rank:
        fitted |= {"rank": rank, "method": recipe.method}
    fitted |= {"draw": recipe.draw} if recipe.draw >= 0 else {}
    return place | {"fitted": {"kind": recipe.kind, **fitted}}


def notes_on_unanswered(run: ModelRun, tasks: Collection[str]) -> list[str]:
    """Where `only: correct` could not be kept. tasks: those of which no fit prompt was answered correctly."""
    if not tasks:
        return []
    names = ", ".join(sorted(tasks))
    return [f"{run.note_head}no fit prompt of {names} was answered correctly: vectors use all fit prompts (only: all)"]
