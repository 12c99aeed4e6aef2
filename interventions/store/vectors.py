"""vectors.safetensors: fitted operands under ``{intervention}/{vector_task}/{layer}``, with their stamp.

A vector is one tensor [d_model]. A subspace is three: ``…`` itself is the basis that reads it,
right [rank, d_model]; ``…/left`` [d_model, rank] writes it back, ``…/center`` [d_model] is what stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from patchboard.errors import RunFolderError
from patchboard.ops import SubspaceTensors
from patchboard.store.folder import atomically
from patchboard.store.schema import VERSION
from patchboard.vectors.base import Operand


def save_vectors(path: Path, operands: Mapping[str, Operand], stamp: Mapping[str, Any]) -> None:
    """stamp: digest, model, revision and the like; a recipe's site and layer under its key."""
    tensors: dict[str, Tensor] = {}
    for key, operand in operands.items():
        if isinstance(operand, Tensor):
            tensors[key] = operand.contiguous()
        else:
            tensors[key], tensors[f"{key}/left"], tensors[f"{key}/center"] = (
                part.contiguous() for part in (operand.right, operand.left, operand.center)
            )
    metadata = {"version": str(VERSION), **{k: v if isinstance(v, str) else json.dumps(v) for k, v in stamp.items()}}
    atomically(path, lambda file: save_file(tensors, str(file), metadata=metadata))


def load_vectors(path: Path, digest: str) -> dict[str, Operand]:
    """All operands of a file. Raises RunFolderError where it is another run's or unreadable."""
    try:
        with safe_open(str(path), framework="pt") as file:
            found = (file.metadata() or {}).get("digest")
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except Exception as error:  # safetensors raises its own and OSError, by kind of damage
        raise RunFolderError(str(path), f"cannot be read ({error})", "use --fresh to start over") from None
    if found != digest:
        raise RunFolderError(str(path), "was fitted for another spec", "use --fresh to start over")
    operands: dict[str, Operand] = {}
    for key, tensor in tensors.items():
        if key.endswith(("/left", "/center")):
            continue
        if f"{key}/left" in tensors:
            operands[key] = SubspaceTensors(tensors[f"{key}/left"], tensor, tensors[f"{key}/center"])
        else:
            operands[key] = tensor
    return operands
