"""pyvene: an intervenable model a cell, with the vector as its source representation (its first tutorial)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyvene  # pyright: ignore[reportMissingImports]  # a peer, not a dependency
import torch
from torch import Tensor

from peers import Batch
from peers.hooks import load

__all__ = ["last_logits", "load"]


@torch.no_grad()
def last_logits(model: Any, tokenizer: Any, batch: Batch) -> Iterator[Tensor]:
    inputs = tokenizer(batch.prompts, return_tensors="pt", padding=True)
    last = inputs.input_ids.shape[1] - 1
    for layer, vector in batch.cells():
        place = {"layer": layer, "component": "block_output", "source_representation": vector}
        intervenable = pyvene.IntervenableModel(place, model=model)
        _, outputs = intervenable(base=inputs, unit_locations={"base": last})
        yield outputs.logits[:, -1]
