"""A checkpoint's tensors as they lie in its files: names, kinds, shapes from headers; values where asked for."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stored:
    """One tensor of a file. whole: counts or codes, not numbers of a network (integers, booleans)."""

    file: str
    shape: tuple[int, ...]
    whole: bool


_WHOLE = {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"}
"""safetensors' names of such kinds."""


class Checkpoint:
    """The files that transformers reads for a model. files: their paths, one for each shard."""

    def __init__(self, files: Sequence[str]):
        self.files = tuple(files)

    @cached_property
    def _listed(self) -> list[dict[str, Stored]]:
        return [_headers(file) for file in self.files]

    @cached_property
    def tensors(self) -> Mapping[str, Stored]:
        """Name -> where and what it is; of a name in several files the last, as transformers takes it."""
        return {name: stored for listed in self._listed for name, stored in listed.items()}

    def repeated(self) -> list[tuple[str, str, str]]:
        """(name, file, other file) for each name that stands in several files with different values."""
        repeated: list[tuple[str, str, str]] = []
        seen: dict[str, str] = {}
        for listed in self._listed:
            for name, stored in listed.items():
                if name in seen and not _same(_value(seen[name], name), _value(stored.file, name)):
                    repeated.append((name, seen[name], stored.file))
                seen[name] = stored.file
        return repeated

    def value(self, name: str) -> Tensor:
        return _value(self.tensors[name].file, name)

    def same(self, one: str, other: str) -> bool:
        """Whether two of its tensors hold the same numbers."""
        return _same(self.value(one), self.value(other))


def checkpoint_of(source: str, options: Mapping[str, Any], config: Any) -> Checkpoint:
    """The checkpoint that transformers has just read from a folder or, through its cache, from the Hub.

    options: as given to ``from_pretrained`` (the revision). Raises OSError where there is none.
    """
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME
    from transformers.utils.hub import cached_file, get_checkpoint_shard_files

    named = getattr(config, "transformers_weights", None)  # a configuration may name its file
    for name in filter(None, (named, SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)):
        try:
            file = cached_file(source, name, local_files_only=True, **options)
        except OSError:
            continue
        if file is None:
            continue
        if not name.endswith(".json"):
            return Checkpoint([file])
        files, _ = get_checkpoint_shard_files(source, file, local_files_only=True, **options)
        return Checkpoint(files)
    raise OSError(f"no weights in the files of {source}")


def _headers(file: str) -> dict[str, Stored]:
    if not file.endswith(".safetensors"):
        tensors = {name: value for name, value in _unpickled(file).items() if isinstance(value, Tensor)}
        return {
            name: Stored(file, tuple(value.shape), not (value.is_floating_point() or value.is_complex()))
            for name, value in tensors.items()
        }
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
        return {
            name: Stored(file, tuple(each.get_shape()), each.get_dtype() in _WHOLE) for name, each in slices.items()
        }


def _value(file: str, name: str) -> Tensor:
    if not file.endswith(".safetensors"):
        return _unpickled(file)[name]
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return opened.get_tensor(name)


def _unpickled(file: str) -> dict[str, Any]:
    """A torch file's tensors, mapped into memory where its format allows that; no code in it runs."""
    return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(Path(file)))


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.float(), other.float())
