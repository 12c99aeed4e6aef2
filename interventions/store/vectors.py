"""vectors.safetensors: fitted operands under ``{intervention}/{vector_task}/{layer}``, with their stamp.

A vector is one tensor [d_model]. A subspace is three: ``…`` itself is the basis that reads it,
right [rank, d_model]; ``…/left`` [d_model, rank] writes it back, ``…/center`` [d_model] is what stays.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
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
    with _opened(path) as file:
        if (file.metadata() or {}).get("digest") != digest:
            raise RunFolderError(str(path), "was fitted for another spec", "use --fresh to start over")
        keys = set(file.keys())
        return {key: _operand(file, key, keys) for key in _operand_keys(file)}


def vector_keys(path: Path) -> list[str]:
    """The keys of a file's operands. Raises RunFolderError where it is unreadable, as the next two do."""
    with _opened(path) as file:
        return _operand_keys(file)


def read_operand(path: Path, key: str) -> Operand:
    """One operand of a file."""
    with _opened(path) as file:
        return _operand(file, key, set(file.keys()))


def read_stamp(path: Path) -> dict[str, str]:
    """What ``save_vectors`` stamped a file with; ``places`` as JSON text."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except RunFolderError:
        raise
    except Exception as error:  # safetensors raises its own and OSError, by kind of damage
        raise RunFolderError(str(path), f"cannot be read ({error})", "use --fresh to start over") from None


def _operand_keys(file: Any) -> list[str]:
    return [key for key in file.keys() if not key.endswith(("/left", "/center"))]


def _operand(file: Any, key: str, keys: Container[str]) -> Operand:
    """keys: all of the file's, which takes a while to list."""
    tensor = file.get_tensor(key)
    if f"{key}/left" not in keys:
        return tensor
    return SubspaceTensors(file.get_tensor(f"{key}/left"), tensor, file.get_tensor(f"{key}/center"))
