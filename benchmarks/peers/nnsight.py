"""nnsight: one trace a cell, the block's output assigned within it (its README's quick start)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from nnsight import TransformersModel
from torch import Tensor

from peers import Batch


def load(folder: str) -> Any:
    return TransformersModel(folder, task="text-generation", device_map="cpu", dtype=torch.float32, dispatch=True)


@torch.no_grad()
def last_logits(model: Any, tokenizer: Any, batch: Batch) -> Iterator[Tensor]:
    prompts = batch.prompts  # padded on the left by nnsight
    for layer, vector in batch.cells():
        with model.trace(prompts):
            model.model.layers[layer].output[:, -1] = vector
            logits = model.output.logits[:, -1].save()
        yield logits
