"""TransformerLens 4: its bridge, which keeps the weights as they are, and run_with_hooks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformer_lens.model_bridge import (  # pyright: ignore[reportMissingImports]  # a peer, not a dependency
    TransformerBridge,
)

from peers import Batch


def load(folder: str) -> Any:
    return TransformerBridge.boot_transformers(folder, device="cpu")


@torch.no_grad()
def last_logits(model: Any, tokenizer: Any, batch: Batch) -> Iterator[Tensor]:
    as_given = {"prepend_bos": False, "padding_side": "left"}  # it would put a BOS in front, and pad on the right
    for layer, vector in batch.cells():

        def patch(resid: Tensor, hook: Any, vector: Tensor = vector) -> Tensor:
            resid[:, -1] = vector
            return resid

        hooks = [(f"blocks.{layer}.hook_resid_post", patch)]
        yield model.run_with_hooks(batch.prompts, fwd_hooks=hooks, **as_given)[:, -1]
