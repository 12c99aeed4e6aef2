"""How operands lie in a file of named tensors, ours or another's.

A vector is one tensor [d_model]. A subspace is three: ``KEY`` itself is the basis that reads it, right [rank, d_model];
``KEY/left`` [d_model, rank] writes it back, ``KEY/center`` [d_model] is what stays. Features of a dictionary are in
runs' own files: ``KEY`` has their decoder's rows [feature, d_model], ``KEY/sae.…`` what encodes them, but for the other
features of a top-k dictionary, which stay in its own file.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

import torch
from torch import Tensor

from patchboard.ops import FeatureTensors, SubspaceTensors
from patchboard.vectors.base import Operand

_OF_FEATURES = ("encoder", "bias", "threshold", "center", "target", "numbers", "form")
_NORMS = ("none", "constant_norm_rescale", "layer_norm")


def parts_of(operand: Operand) -> tuple[Tensor, ...]:
    """Its tensors: of a subspace right, left and center. Not of features, which are more than a plan holds."""
    assert not isinstance(operand, FeatureTensors)
    return (operand,) if isinstance(operand, Tensor) else (operand.right, operand.left, operand.center)


def tensors_of(key: str, operand: Operand) -> dict[str, Tensor]:
    """Name -> tensor, of one operand under its key."""
    if isinstance(operand, Tensor):
        return {key: operand.contiguous()}
    if isinstance(operand, FeatureTensors):
        form = torch.tensor([_NORMS.index(operand.norm), int(operand.centred), operand.k])
        of_features = {**vars(operand), "form": form}
        return {key: operand.decoder.contiguous()} | {_part(key, name): of_features[name] for name in _OF_FEATURES}
    parts = {key: operand.right, f"{key}/left": operand.left, f"{key}/center": operand.center}
    return {name: part.contiguous() for name, part in parts.items()}


def _part(key: str, name: str) -> str:
    return f"{key}/sae.{name}"


def operand_keys(names: Iterable[str]) -> list[str]:
    """The keys of operands among the names of tensors."""
    parts = ("/left", "/center", *(_part("", name) for name in _OF_FEATURES))
    return [name for name in names if not name.endswith(parts)]


def is_subspace(key: str, names: Container[str]) -> bool:
    """Whether the file has a subspace under the key, and no vector."""
    return f"{key}/left" in names


def operand_of(key: str, names: Container[str], get: Callable[[str], Tensor]) -> Operand:
    """The operand under a key. names: all of the file's; get: gives the tensor of a name. Features of a top-k
    dictionary come without its whole encoder."""
    if _part(key, "form") in names:
        *parts, form = (get(_part(key, name)) for name in _OF_FEATURES)
        encoder, bias, threshold, center, target, numbers = parts
        norm, centred, k = form.tolist()
        return FeatureTensors(
            encoder, bias, threshold, get(key), center, target, numbers, _NORMS[norm], bool(centred), k
        )  # fmt: skip
    if not is_subspace(key, names):
        return get(key)
    return SubspaceTensors(get(f"{key}/left"), get(key), get(f"{key}/center"))
