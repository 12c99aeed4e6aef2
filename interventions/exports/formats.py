"""Vectors as files of a format: which names they have there, and what of the stamp is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from patchboard.api.vectors import parts_of
from patchboard.errors import SpecError
from patchboard.exports.choose import Chosen
from patchboard.extras import require_extra
from patchboard.vectors.files.contents import CONTROL_VECTOR
from patchboard.vectors.files.layout import tensors_of


def _tensors(chosen: Chosen) -> dict[str, Tensor]:
    return {name: part for key, one in chosen.operands.items() for name, part in tensors_of(key, one).items()}


def _safetensors(chosen: Chosen, folder: Path) -> list[Path]:
    """With the whole stamp, by which a file is refused elsewhere."""
    file = folder / f"{chosen.name}.safetensors"
    save_file(_tensors(chosen), str(file), metadata=dict(chosen.stamp))
    return [file]


def _npz(chosen: Chosen, folder: Path) -> list[Path]:
    import numpy as np

    file = folder / f"{chosen.name}.npz"
    arrays: Any = {name: part.numpy() for name, part in _tensors(chosen).items()}
    np.savez(file, **arrays)
    return [file]


def _pt(chosen: Chosen, folder: Path) -> list[Path]:
    file = folder / f"{chosen.name}.pt"
    torch.save(_tensors(chosen), file)
    return [file]


def _gguf(chosen: Chosen, folder: Path) -> list[Path]:
    """A control vector for each intervention and task: tensor ``direction.N`` is added to the output of block N."""
    require_extra("gguf", SpecError, "--format", "gguf")
    from gguf import GGUFWriter

    directions: dict[tuple[str, str], dict[int, Tensor]] = {}
    for key, operand in chosen.operands.items():
        label, place, task = parts_of(key)
        where = chosen.places[key]
        at_stream = where["site"] == "resid_post" or "heads" in where
        if not isinstance(operand, Tensor) or not isinstance(place, int) or not at_stream:
            what = "a subspace" if not isinstance(operand, Tensor) else f"of {where['site']}"
            refused = f"'{key}' is {what}, and a control vector is added to the output of a block (resid_post)"
            raise SpecError("--format", refused, "choose others by --intervention, or another format")
        directions.setdefault((label, task), {})[place] = operand
    files = []
    prefix = chosen.name.removesuffix("vectors")
    for (label, task), layers in directions.items():
        file = folder / f"{prefix}{_as_file_name(label)}-{_as_file_name(task)}.gguf"
        writer = GGUFWriter(file, CONTROL_VECTOR)
        writer.add_string(f"{CONTROL_VECTOR}.model_hint", chosen.model["family"])
        writer.add_uint32(f"{CONTROL_VECTOR}.layer_count", len(layers))
        for layer, vector in layers.items():
            writer.add_tensor(f"direction.{layer}", vector.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        files.append(file)
    return files


def _as_file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_.=,@~" else "_" for letter in text)


WRITERS: Mapping[str, Callable[[Chosen, Path], list[Path]]] = {
    "safetensors": _safetensors, "npz": _npz, "pt": _pt, "gguf": _gguf,
}  # fmt: skip
"""Format -> writes the vectors of one model into a folder; gives the files."""
