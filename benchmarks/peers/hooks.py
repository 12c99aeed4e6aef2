"""Plain PyTorch: register a forward hook on the block, run the model, take the hook away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from peers import Batch


def load(folder: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def last_logits(model: Any, tokenizer: Any, batch: Batch, **options: Any) -> Iterator[Tensor]:
    """options: of the forward pass."""
    inputs = tokenizer(batch.prompts, return_tensors="pt", padding=True)
    for layer, vector in batch.cells():

        def patch(module: Any, args: Any, output: Tensor, vector: Tensor = vector) -> Tensor:
            output[:, -1] = vector
            return output

        handle = model.model.layers[layer].register_forward_hook(patch)
        yield model(**inputs, **options).logits[:, -1]
        handle.remove()
