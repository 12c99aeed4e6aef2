"""What a control promises: cells at the places of the intervention's own, the same ones each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from patchboard.ops import OPS
from patchboard.plan.context import Context, FitSetting
from patchboard.plan.controls import ControlCell, PlacedIntervention
from patchboard.plan.edit_sites import edit_sites_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.planned_edits import PlannedEdit
from patchboard.plugins.checks.promise import Promise
from patchboard.spec.axes import Variant
from patchboard.spec.edits import InterventionSection
from patchboard.spec.sites import SITES
from patchboard.tasks.base import NULL

_VECTOR = {"mean": "same_task", "shots": 2, "prompts": 4}
_SUBSPACE = {"subspace": "tasks", "rank": 1, "shots": 2, "prompts": 4}
_INTERVENTIONS: dict[str, dict[str, Any]] = {
    "patched": {"op": "patch", "vector": _VECTOR, "layers": [1]},
    "erased": {"op": "ablate", "vector": _SUBSPACE, "layers": [1]},
    "zeroed": {"op": "zero", "layers": [1, 2]},
    "resampled": {"op": "resample", "source": "same_task", "layers": [2]},
    "cut": {"op": "knock_out", "edges": {"from": "query", "to": "last"}, "layers": [1]},
    "sent": {"op": "path", "source": "other_task", "sender": {"layers": [1]}},
    "kept": {"op": "zero", "site": "head", "keep": {"ranking": [[1, 0], [3, 1]], "first": 1}},
    "both": {"edits": [{"op": "add", "vector": _VECTOR, "layers": 0}, {"op": "scale", "layers": 2}]},
}


def placed_interventions() -> Iterator[PlacedIntervention]:
    """Interventions with a vector, a subspace, neither, another prompt's state, cut edges, a path, at all heads but
    one, and of two edits."""
    facts = ModelFacts("llama", layers=4, width=16, vocab=40, heads=2, head_dim=8, sites=SITES)
    fits = {FitSetting(2, 4): "fit0", FitSetting(2, 4, "shuffled"): "fit1"}
    context = Context("A", "A", ("A", "B", NULL), facts, fits, "")
    for name, fields in _INTERVENTIONS.items():
        variant = Variant(name, InterventionSection.model_validate(fields), {})
        for sites in edit_sites_of(variant, facts):
            yield PlacedIntervention(variant, sites, context, ())


def _cells(control: Any, placed: PlacedIntervention) -> list[ControlCell]:
    return list(control.cells(placed, control.Options()))


def _means_something(control: Any) -> str:
    if any(_cells(control, placed) for placed in placed_interventions()):
        return ""
    return f"gives no cell for any of {', '.join(_INTERVENTIONS)}"


def _form(control: Any) -> str:
    for placed in placed_interventions():
        for cell in _cells(control, placed):
            if not isinstance(cell, ControlCell):
                return f"gives {cell!r}, expected ControlCells"
            if not cell.control or not cell.edits:
                return f"a cell beside {placed.variant.name} has no {'edits' if cell.control else 'name'}"
            unknown = [planned.edit.op for planned in cell.edits if planned.edit.op not in OPS]
            if unknown:
                return f"a cell beside {placed.variant.name} uses op '{unknown[0]}', which there is not"
    return ""


def _places_of(edits: Sequence[PlannedEdit]) -> set[tuple[str, int, str, int]]:
    return {(e.edit.site, e.edit.layer, e.edit.position, e.edit.head) for e in edits}


def _places(control: Any) -> str:
    """Elsewhere an effect of another size says nothing of the intervention."""
    for placed in placed_interventions():
        own = _places_of(placed.edits)
        for cell in _cells(control, placed):
            found = _places_of(cell.edits)
            as_many = placed.variant.section.keep and len(found) == len(own)  # of sets of heads, other ones
            if found != own and not as_many:
                return f"beside {placed.variant.name} it edits {sorted(found)}, expected {sorted(own)}"
    return ""


def _deterministic(control: Any) -> str:
    for one, other in zip(placed_interventions(), placed_interventions(), strict=True):
        if _cells(control, one) != _cells(control, other):
            return f"gives other cells beside {one.variant.name} the second time"
    return ""


def _vectors(control: Any) -> str:
    """A vector's key is its name in the run folder: two vectors of one name would be one."""
    for placed in placed_interventions():
        named = {planned.recipe.key: planned.recipe for planned in placed.edits if planned.recipe}
        for cell in _cells(control, placed):
            for planned in cell.edits:
                recipe = planned.recipe
                if recipe is not None and named.setdefault(recipe.key, recipe) != recipe:
                    return f"beside {placed.variant.name} two different vectors are called {recipe.key}"
    return ""


CONTROL_PROMISES = (
    Promise("has cells for some kind of intervention", _means_something),
    Promise("its cells have a name and edits by known ops", _form),
    Promise("it edits the places that the intervention edits", _places),
    Promise("gives the same cells each time", _deterministic),
    Promise("its vectors have names of their own", _vectors),
)
