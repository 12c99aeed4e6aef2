"""How a script makes a cell's vectors: one expression a vector, over means of the fit prompts' states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from patchboard.emit.data import Columns
from patchboard.emit.literal import literal
from patchboard.emit.source import Sources
from patchboard.errors import SpecError
from patchboard.plan.cells import position_label
from patchboard.vectors.base import Recipe
from patchboard.vectors.fitters import FITTERS
from patchboard.vectors.make import random_vector
from patchboard.vectors.subspace import leace_subspace, pca_subspace, random_subspace

_WIDTH = 72
"""Columns of an expression, before it is indented."""

_FITTERS = {
    "pca_subspace": pca_subspace,
    "leace_subspace": leace_subspace,
    "random_subspace": random_subspace,
    "random_vector": random_vector,
}


def expressions(recipes: Mapping[str, Recipe], sources: Sources, columns: Columns) -> dict[str, str]:
    """Key -> Python expression; the functions of ours that it calls are defined in ``sources``."""
    return {key: _expression(_in_module(recipe, columns), sources) for key, recipe in recipes.items()}


def _in_module(recipe: Recipe, columns: Columns) -> Recipe:
    """The recipe with its head's columns as they lie in the site's module, which the script reads."""
    if recipe.columns is None:
        return recipe
    start, stop = recipe.columns
    return replace(recipe, columns=columns(recipe.place.site, start // (stop - start)))


def _called(name: str, sources: Sources) -> str:
    return sources.add(_FITTERS[name], name, f"vector {name}")


def _expression(recipe: Recipe, sources: Sources) -> str:
    fitted = _fitted(recipe, sources)
    if recipe.draw < 0:
        return fitted
    name = "random_subspace" if FITTERS.get(recipe.kind, "vector").makes == "subspace" else "random_vector"
    return _call(_called(name, sources), fitted, f"torch.Generator().manual_seed({recipe.seed})")


def _fitted(recipe: Recipe, sources: Sources) -> str:
    if recipe.kind == "function_vector":
        heads: dict[int, list[tuple[int, int]]] = {}
        for block, start, stop in recipe.heads:
            heads.setdefault(block, []).append((start, stop))
        what = [recipe.fit, list(recipe.plus), position_label(recipe.place.position), recipe.only, heads]
        return _call("function_vector", *map(literal, what))
    if recipe.method == "leace":
        _called("leace_subspace", sources)
        return _call("leace", *_arguments(recipe, recipe.plus), f"rank={recipe.rank}")
    if recipe.kind == "subspace":
        return _call(_called("pca_subspace", sources), _means(recipe, recipe.plus), f"rank={recipe.rank}")
    if recipe.kind not in ("mean", "difference", "contrast"):
        what = f"a script cannot make a vector of kind {recipe.kind}"
        raise SpecError("--intervention", what, "emit interventions with other vectors")
    mean = f"{_means(recipe, recipe.plus)}.mean(0)"
    some = f"[{literal(list(recipe.neurons))}]" if recipe.neurons else ""
    if recipe.kind == "mean":
        return mean + some
    less = f"{_means(recipe, recipe.minus)}.mean(0)"
    return f"(\n    {_indented(mean)}\n    - {_indented(less)}\n){some}"


def _means(recipe: Recipe, tasks: tuple[str, ...]) -> str:
    part = f"[:, {recipe.columns[0]}:{recipe.columns[1]}]" if recipe.columns else ""
    return _call("means", *_arguments(recipe, tasks)) + part


def _arguments(recipe: Recipe, tasks: tuple[str, ...]) -> list[str]:
    place = (recipe.layer, recipe.place.site, position_label(recipe.place.position))
    return [literal(each) for each in (recipe.fit, list(tasks), place, recipe.only)]


def _call(function: str, *arguments: str) -> str:
    short = f"{function}({', '.join(arguments)})"
    if len(short) < _WIDTH and "\n" not in short:
        return short
    return f"{function}(\n" + "".join(f"    {_indented(each)},\n" for each in arguments) + ")"


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")
