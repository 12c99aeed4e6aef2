"""What is in a file of vectors: names, shapes and tensors, whatever its format."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from patchboard.errors import SpecError
from patchboard.extras import require_extra
from patchboard.vectors.files.located import Located

CONTROL_VECTOR = "controlvector"
"""Architecture of a GGUF file that holds one; its tensor ``direction.N`` is added to the output of block N, from 0."""


@dataclass(frozen=True)
class Contents:
    """shapes: name -> shape of each tensor. get: gives a tensor by its name, as it lies there. stamp: of our files."""

    format: str
    shapes: Mapping[str, tuple[int, ...]]
    get: Callable[[str], Tensor] = field(compare=False)
    stamp: Mapping[str, str] = field(default_factory=dict)


def contents_of(file: Located, where: str) -> Contents:
    """Raises SpecError at ``where`` for a format that is not known, and for a file that is damaged or holds more than
    tensors. No file is unpickled as more than tensors."""
    ending = file.path.suffix
    if ending not in READERS:
        what = f"'{file.name}' ends in '{ending}', expected one of {', '.join(READERS)}"
        raise SpecError(where, what, "export it in one of these formats")
    if ending == ".gguf":
        require_extra("gguf", SpecError, where, f"'{file.name}'")
    try:
        return _read(file.path, file.sha256)
    except Exception as error:  # each format's reader raises its own, by kind of damage
        what = f"'{file.name}' cannot be read as {ending} ({_first_line(error)})"
        raise SpecError(where, what, "save tensors alone, or fetch the file again") from None


@lru_cache(maxsize=64)
def _read(path: Path, sha256: str) -> Contents:
    """sha256: so that a file that was written over is read again."""
    return READERS[path.suffix](path)


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line[:160]


def _safetensors(path: Path) -> Contents:
    from safetensors import safe_open

    def get(name: str) -> Tensor:
        with safe_open(str(path), framework="pt") as file:
            return file.get_tensor(name)

    with safe_open(str(path), framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
        return Contents("safetensors", shapes, get, dict(file.metadata() or {}))


def _npz(path: Path) -> Contents:
    """Of a file of gigabytes, as dictionaries of features are, an array is read when it is asked for."""
    import numpy as np

    def get(name: str) -> Tensor:
        try:
            with np.load(path, allow_pickle=False) as file:
                return torch.from_numpy(np.array(file[name]))
        except (zipfile.BadZipFile, zlib.error, OSError, ValueError) as error:  # found by the archive's checksum
            raise SpecError(str(path), f"'{name}' cannot be read ({_first_line(error)})", "fetch it again") from None

    with np.load(path, allow_pickle=False) as file:
        names = file.files
    with zipfile.ZipFile(path) as archive:
        shapes = {name: _array_shape(archive, name) for name in names}
    return Contents("npz", shapes, get)


def _array_shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """Of an array of an .npz, from the head of its file. Raises ValueError for one that holds more than numbers."""
    from numpy.lib import format as headers

    with archive.open(f"{name}.npy") as file:
        version = headers.read_magic(file)
        read = headers.read_array_header_1_0 if version == (1, 0) else headers.read_array_header_2_0
        shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded: they could run code")
    return shape


def _pt(path: Path) -> Contents:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if "weights only" in str(error).lower():
            raise ValueError("it holds more than tensors and plain data, which could run code") from None
        raise
    return _held("pt", dict(_tensors_in(loaded)))


def _tensors_in(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Names of nested dictionaries and lists joined by ``/``; a tensor by itself has the name ``""``."""
    if isinstance(value, Tensor):
        yield path, value.detach()
    elif isinstance(value, Mapping | list | tuple):
        for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _tensors_in(each, f"{path}/{key}" if path else str(key))


def _gguf(path: Path) -> Contents:
    import numpy as np
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(path)
    told = reader.get_field("general.architecture")
    architecture = bytes(told.parts[-1]).decode(errors="replace") if told else "not told"
    if architecture != CONTROL_VECTOR:
        raise ValueError(f"its architecture is {architecture}, expected {CONTROL_VECTOR}")
    arrays = {t.name: torch.from_numpy(np.array(dequantize(t.data, t.tensor_type))) for t in reader.tensors}
    return _held("gguf", arrays)


def _held(format: str, tensors: Mapping[str, Tensor]) -> Contents:
    return Contents(format, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__)


READERS: dict[str, Callable[[Path], Contents]] = {
    ".safetensors": _safetensors, ".npz": _npz, ".pt": _pt, ".gguf": _gguf,
}  # fmt: skip
