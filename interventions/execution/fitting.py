"""The operands of a plan, fitted in this process unless the run folder has them."""

from __future__ import annotations

from patchboard.engine.local import LocalEngine
from patchboard.execution.features import notes_on_silent
from patchboard.execution.learning import with_learned
from patchboard.execution.model_run import ModelRun
from patchboard.execution.vectors import notes_on_unanswered, write_vectors
from patchboard.measure.notes import not_finite
from patchboard.store.vectors import load_vectors
from patchboard.vectors.base import Operand
from patchboard.vectors.dictionaries.choice import choices
from patchboard.vectors.dictionaries.operands import with_whole_encoders
from patchboard.vectors.make import make_here


def fit_operands(run: ModelRun, engine: LocalEngine) -> tuple[dict[str, Operand], list[str]]:
    """All operands of the plan, as the folder holds them, and notes on where ``only`` could not be kept.

    Read back also by who has fitted them: a tensor that lies otherwise in memory rounds otherwise in a product, and
    a resumed run is to equal an undisturbed one.
    """
    folder, name = run.folder, run.vectors_file
    notes = folder.manifest.get("fit_fallbacks", {})
    if name not in notes or folder.unsound([name]):
        notes[name] = _fit_into_folder(run, engine)
    operands = load_vectors(folder.path / name, folder.digest)
    return with_whole_encoders(operands, run.plan.recipes), notes[name]


def _fit_into_folder(run: ModelRun, engine: LocalEngine) -> list[str]:
    plan, folder = run.plan, run.folder
    total = sum(len(prompts) for fit in plan.fits for prompts in fit.prompts.values())
    step = run.progress.counter("fitting vectors", total)
    statistics = engine.fit(plan.fits, step)
    for (_, place), of_place in statistics.items():
        if not of_place.is_finite():
            raise not_finite(f"states of '{plan.section.label}' at {place.site}")
    operands = make_here(with_learned(run, engine, statistics), statistics, engine.projected)
    chosen = choices(plan.recipes, statistics)
    only_correct = {(recipe.fit, recipe.place) for recipe in plan.recipes.values() if recipe.only == "correct"}
    notes = notes_on_unanswered(run, {task for key in only_correct for task in statistics[key].lacks_correct()})
    notes += notes_on_silent(run, chosen)
    folder.update_manifest(fit_fallbacks={**folder.manifest.get("fit_fallbacks", {}), run.vectors_file: notes})
    write_vectors(run, run.vectors_file, operands, chosen)
    return notes
