"""The fitted vectors of a run as a mapping: (intervention, layer, task) -> tensor with its stamp."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from patchboard.api.display import html_table
from patchboard.errors import RunFolderError, UnknownKeyError
from patchboard.ops import FeatureTensors, SubspaceTensors
from patchboard.registry import suggest
from patchboard.store.vectors import read_operand, read_stamp, vector_keys

Key: TypeAlias = tuple[Any, ...]
"""(intervention, layer, task), of a head (intervention, (layer, head), task); with the model behind it where a run has
several."""


class Vectors(Mapping[Key, "Tensor | SubspaceTensors | FeatureTensors"]):
    """What a run fitted, read from its file when asked for.

    ``vectors[intervention, layer, task]`` is a tensor [d_model], float32 on the CPU; of a subspace an object with
    ``right`` [rank, d_model], ``left`` [d_model, rank] and ``center`` [d_model]; of features of a dictionary one with
    ``decoder`` [feature, d_model], ``numbers`` [feature] and what encodes them. Its ``stamp`` says where it comes
    from: run, model, site, position. ``vectors[intervention]`` and ``vectors[intervention, layer]`` are the part of the
    mapping under that name. A function vector or a head's is under (layer, head) in place of the layer; random
    counterparts are under tasks such as ``XOR~random0``; where the run has several models, the model's name comes last.

    >>> v = run.vectors["p", 2, "XOR"]
    >>> tuple(v.shape), v.stamp["site"], v.stamp["layer"]
    ((48,), 'resid_post', 2)
    >>> sorted(run.vectors["p", 2])[-2:]
    [('p', 2, 'XOR'), ('p', 2, 'XOR~random0')]
    >>> run.vectors["p", 2, "XR"]
    Traceback (most recent call last):
    patchboard.errors.UnknownKeyError: vectors['p', 2, 'XR']: there is no such task; did you mean 'XOR'?
    """

    def __init__(self, folder: Path, entries: Mapping[Key, tuple[Path, str]] | None = None):
        """entries: key -> (file, the key in it); all of the folder's by default."""
        self._folder = folder
        self._entries = _entries_of(folder) if entries is None else entries

    def __getitem__(self, key: Any) -> Any:
        """A tensor or a subspace for a whole key, else the part of the mapping that begins so."""
        parts = key if isinstance(key, tuple) else (key,)
        if parts in self._entries:
            file, name = self._entries[parts]
            operand = read_operand(file, name)
            operand.stamp = self.stamp(*parts)  # type: ignore[union-attr]  # a tensor takes attributes
            return operand
        some = {known: entry for known, entry in self._entries.items() if known[: len(parts)] == parts}
        if not some:
            raise self._unknown(parts)
        return Vectors(self._folder, some)

    def stamp(self, *key: Any) -> dict[str, Any]:
        """Where a vector comes from: the run's digest, model and revision, site, position, layer, its own key."""
        if key not in self._entries:
            raise self._unknown(key)
        file, name = self._entries[key]
        stamp = read_stamp(file)
        places = json.loads(stamp.pop("places", "{}"))
        return {**stamp, **places.get(name, {}), "key": name}

    def __iter__(self) -> Iterator[Key]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def _unknown(self, parts: Key) -> UnknownKeyError:
        """Names the first part that nothing begins with, and the nearest to it."""
        where = f"vectors[{', '.join(map(repr, parts))}]"
        for length in range(1, len(parts) + 1):
            before = [known for known in self._entries if known[: length - 1] == parts[: length - 1]]
            following = dict.fromkeys(known[length - 1] for known in before if len(known) >= length)
            if not following:
                return UnknownKeyError(where, "has more parts than a key", "give intervention, layer and task")
            if parts[length - 1] not in following:
                what = ("intervention", "layer", "task", "model")[min(length, 4) - 1]
                near = suggest(str(parts[length - 1]), map(str, following))
                return UnknownKeyError(where, f"there is no such {what}", near)
        return UnknownKeyError(where, "is no whole key", "give intervention, layer and task")

    def __repr__(self) -> str:
        return f"<{len(self)} vectors of {', '.join(dict.fromkeys(str(key[0]) for key in self))}>"

    def _repr_html_(self) -> str:
        rows = []
        for name in dict.fromkeys(key[0] for key in self):
            keys = [key for key in self if key[0] == name]
            parts = [", ".join(dict.fromkeys(str(key[i]) for key in keys)) for i in (1, 2)]
            rows.append((name, *parts))
        return html_table(("intervention", "layers", "tasks"), rows, caption=repr(self))


def _entries_of(folder: Path) -> dict[Key, tuple[Path, str]]:
    """Raises RunFolderError where the folder has no vectors, or a file cannot be read."""
    files = vector_files(folder)
    labels = _model_labels(files) if len(files) > 1 else [()]
    return {
        (*parts_of(name), *label): (file, name)
        for file, label in zip(files, labels, strict=True)
        for name in vector_keys(file)
    }


def vector_files(folder: Path) -> list[Path]:
    """A file for each model of a run. Raises RunFolderError where there is none."""
    files = [folder / "vectors.safetensors"]
    if not files[0].exists():
        files = sorted(folder.glob("m*-vectors.safetensors"), key=lambda file: int(file.name[1:].split("-")[0]))
    if not files:
        what = "holds no vectors: they stay on the host of a remote run unless they are asked for"
        raise RunFolderError(str(folder), what, "run it with vectors=True (--vectors)")
    return files


def parts_of(name: str) -> tuple[str, int | tuple[int, int], str]:
    """``added/XOR/2`` -> (added, 2, XOR), ``one/XOR/2.3`` of head 3 -> (one, (2, 3), XOR)."""
    intervention, task, place = name.rsplit("/", 2)
    layer, _, head = place.partition(".")
    return intervention, (int(layer), int(head)) if head else int(layer), task


def _model_labels(files: list[Path]) -> list[tuple[str]]:
    """What tells the models apart: the name, with the revision and what was changed where the name does not."""
    stamps = [read_stamp(file) for file in files]
    names = [stamp["model"] for stamp in stamps]
    if len(set(names)) < len(names):
        names = [f"{stamp['model']}@{stamp['revision']}" for stamp in stamps]
    if len(set(names)) < len(names):
        own = ("digest", "version", "places", "model", "revision")
        changes = [",".join(f"{k}={v}" for k, v in stamp.items() if k not in own) for stamp in stamps]
        names = [f"{name},{change}" for name, change in zip(names, changes, strict=True)]
    return [(name,) for name in names]
