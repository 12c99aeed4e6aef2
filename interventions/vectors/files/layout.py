"""How operands lie in a file of named tensors, ours or another's.

A vector is one tensor [d_model]. A subspace is three: ``KEY`` itself is the basis that reads it, right [rank, d_model];
``KEY/left`` [d_model, rank] writes it back, ``KEY/center`` [d_model] is what stays.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from torch import Tensor

from patchboard.ops.base import SubspaceTensors
from patchboard.vectors.base import Operand


def tensors_of(key: str, operand: Operand) -> dict[str, Tensor]:
    """Name -> tensor, of one operand under its key."""
    if isinstance(operand, Tensor):
        return {key: operand.contiguous()}
    parts = {key: operand.right, f"{key}/left": operand.left, f"{key}/center": operand.center}
    return {name: part.contiguous() for name, part in parts.items()}


def operand_keys(names: Iterable[str]) -> list[str]:
    """The keys of operands among the names of tensors."""
    return [name for name in names if not name.endswith(("/left", "/center"))]


def is_subspace(key: str, names: Container[str]) -> bool:
    """Whether the file has a subspace under the key, and no vector."""
    return f"{key}/left" in names


def operand_of(key: str, names: Container[str], get: Callable[[str], Tensor]) -> Operand:
    """The operand under a key. names: all of the file's; get: gives the tensor of a name."""
    if not is_subspace(key, names):
        return get(key)
    return SubspaceTensors(get(f"{key}/left"), get(key), get(f"{key}/center"))
