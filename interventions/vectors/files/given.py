"""A vector from a file at the place where a spec uses it: held against the model and against the file's stamp."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor

from patchboard.errors import SpecError
from patchboard.ops import FeatureTensors, SubspaceTensors
from patchboard.spec.fitted import FittedAtSection
from patchboard.spec.sections import ModelSection
from patchboard.spec.vectors import VectorSection
from patchboard.vectors.base import Given, Operand, Recipe
from patchboard.vectors.files.contents import Contents, contents_of
from patchboard.vectors.files.key import key_of
from patchboard.vectors.files.layout import operand_of, parts_of
from patchboard.vectors.files.located import Located, located


@dataclass(frozen=True)
class Use:
    """Where a vector is used. position: JSON text. width: numbers of a state there. neurons: how many are edited, 0 for
    all. task: whose vector is meant. wants: the op's operand."""

    model: ModelSection
    layer: int
    head: int
    site: str
    position: str
    width: int
    neurons: int
    task: str
    wants: str


def given(vector: VectorSection, use: Use, where: str) -> Given:
    """The tensors of a vector with ``file``, float32. where: of the vector.

    Raises SpecError where the file has none for this place, or what it has is of another width, model or place.
    """
    assert vector.file is not None
    file = located(vector.file, f"{where}.file")
    contents = contents_of(file, f"{where}.file")
    told = vector.fitted_at or FittedAtSection()
    layer = use.layer if told.layer is None else told.layer
    key = key_of(vector, contents, use.task, layer, use.head, where)
    _check_stamp(contents, key, told, use, f"{where}.file")
    operand = _read(file, key, f"{where}.file")
    _check_form(operand, key, use, f"{where}.file")
    return Given(file.name, key, file.sha256, file.commit, parts_of(operand))


def given_operands(recipes: Mapping[str, Recipe], fits: Any, project: Any) -> dict[str, Operand]:
    """Key -> operand of each recipe that has one already: the plan has read it from a file, or it was learned.
    Travels to a server."""
    made = {}
    for key, recipe in recipes.items():
        assert recipe.given is not None
        parts = [part.double() for part in recipe.given.tensors]
        made[key] = parts[0] if len(parts) == 1 else SubspaceTensors(parts[1], parts[0], parts[2])
    return made


@lru_cache(maxsize=4096)
def _read(file: Located, key: str, where: str) -> Operand:
    """As float32; one tensor for all cells that use it."""
    contents = contents_of(file, where)

    def get(name: str) -> Tensor:
        tensor = contents.get(name)
        if not tensor.is_floating_point():
            raise SpecError(where, f"'{name}' holds {str(tensor.dtype).removeprefix('torch.')} numbers", "save floats")
        if not bool(tensor.isfinite().all()):
            raise SpecError(where, f"'{name}' holds NaN or infinite numbers", "fit it again")
        return tensor.float().contiguous()

    return operand_of(key, contents.shapes, get)


def _check_form(operand: Operand, key: str, use: Use, where: str) -> None:
    """Raises SpecError for a vector where a subspace is needed or the reverse, and for another width."""
    if isinstance(operand, FeatureTensors):
        what = f"'{key}' is of features of a dictionary, which are told by the dictionary's own file"
        raise SpecError(where, what, "write vector: {sae: …}")
    kind = "vector" if isinstance(operand, Tensor) else "subspace"
    if kind != use.wants:
        raise SpecError(where, f"'{key}' is a {kind}, the op needs a {use.wants}", "use another key, or another op")
    widths = dict.fromkeys([use.width, *([use.neurons] if use.neurons else [])])
    if isinstance(operand, Tensor):
        wrong = operand.dim() != 1 or operand.shape[0] not in widths
        shape = list(operand.shape)
    else:
        rank = operand.right.shape[0]
        shape = [list(part.shape) for part in (operand.right, operand.left, operand.center)]
        wrong = shape != [[rank, use.width], [use.width, rank], [use.width]]
    if wrong:
        expected = " or ".join(f"[{width}]" for width in widths)
        if not isinstance(operand, Tensor):
            expected = f"[rank, {use.width}], [{use.width}, rank], [{use.width}]"
        what = f"'{key}' has shape {shape}, the model's states at {use.site} need {expected}"
        raise SpecError(where, what, "use a vector of this model and site")


def _check_stamp(contents: Contents, key: str, told: FittedAtSection, use: Use, where: str) -> None:
    """Raises SpecError where a file of ours was fitted on another model, or at another place than the spec says."""
    places = json.loads(contents.stamp.get("places", "{}"))
    if key not in places:
        return
    models = list(_other_model(contents.stamp, use.model))
    if models:
        raise SpecError(where, f"'{key}' was fitted on another model: {', '.join(models)}", "use it on that model")
    differing = list(_other_place(places[key], told, use))
    if differing:
        what = f"'{key}' was fitted elsewhere: {', '.join(what for _, what, _ in differing)}"
        settings = ", ".join(f"{name}: {json.dumps(value)}" for name, _, value in differing)
        raise SpecError(where, what, f"edit there, or write fitted_at: {{{settings}}}")


def _other_model(stamp: Mapping[str, str], model: ModelSection) -> Iterator[str]:
    own = {"model": model.name, "revision": model.revision, **model.changes}
    for name in ("model", "revision", "adapter", "quantization"):
        value = own.get(name)
        used = value if isinstance(value, str) or value is None else json.dumps(value)
        if stamp.get(name) != used:
            yield f"{name} {stamp.get(name, 'none')} there, {used or 'none'} here"


def _other_place(place: Mapping[str, Any], told: FittedAtSection, use: Use) -> Iterator[tuple[str, str, Any]]:
    """(field, what, value in the stamp) of each that differs from where the spec says that the vector is fitted. A
    function vector, which has ``heads``, is of no layer and of no site."""
    position = json.dumps(told.position) if told.position is not None else use.position
    expected = {"layer": use.layer if told.layer is None else told.layer, "site": told.site or use.site}
    for name, value in expected.items() if "heads" not in place else ():
        if place[name] != value:
            yield name, f"{name} {place[name]} there, {value} here", place[name]
    if place["position"] != position:
        yield "position", f"position {place['position']} there, {position} here", json.loads(place["position"])
