"""vectors.safetensors: operands under ``{intervention}/{vector_task}/{layer}``, with their stamp.

How they lie in it says ``vectors.files.layout``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from patchboard.errors import RunFolderError
from patchboard.store.folder import atomically
from patchboard.store.version import VERSION
from patchboard.vectors.base import Operand
from patchboard.vectors.files.layout import operand_keys, operand_of, tensors_of


def save_vectors(path: Path, operands: Mapping[str, Operand], stamp: Mapping[str, Any]) -> None:
    """stamp: digest, model, revision and the like; a recipe's site and layer under its key."""
    tensors: dict[str, Tensor] = {}
    for key, operand in operands.items():
        tensors |= tensors_of(key, operand)
    metadata = {"version": str(VERSION), **{k: v if isinstance(v, str) else json.dumps(v) for k, v in stamp.items()}}
    atomically(path, lambda file: save_file(tensors, str(file), metadata=metadata))


def load_vectors(path: Path, digest: str) -> dict[str, Operand]:
    """All operands of a file. Raises RunFolderError where it is another run's or unreadable."""
    with _opened(path) as file:
        if (file.metadata() or {}).get("digest") != digest:
            raise RunFolderError(str(path), "was fitted for another spec", "use --fresh to start over")
        keys = set(file.keys())
        return {key: operand_of(key, keys, file.get_tensor) for key in operand_keys(file.keys())}


def vector_keys(path: Path) -> list[str]:
    """The keys of a file's operands. Raises RunFolderError where it is unreadable, as the next two do."""
    with _opened(path) as file:
        return operand_keys(file.keys())


def read_operand(path: Path, key: str) -> Operand:
    """One operand of a file."""
    with _opened(path) as file:
        return operand_of(key, set(file.keys()), file.get_tensor)


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
