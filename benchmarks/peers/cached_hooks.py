"""The best loop that we could write: keys and values of all tokens but the last are computed once, and a batch of last
tokens goes on from copies of them, many layers and vectors side by side. It is right for edits of the last token only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from peers import Batch
from peers.hooks import load

__all__ = ["last_logits", "load"]

ROWS = 256
"""Last tokens of one pass; each needs a copy of a cache."""


@torch.no_grad()
def last_logits(model: Any, tokenizer: Any, batch: Batch) -> Iterator[Tensor]:
    inputs = tokenizer(batch.prompts, return_tensors="pt", padding=True)
    ids, seen = inputs["input_ids"], inputs["attention_mask"]
    positions = (seen.cumsum(1) - 1).clamp(min=0)
    before = model(
        ids[:, :-1], attention_mask=seen[:, :-1], position_ids=positions[:, :-1], use_cache=True, logits_to_keep=1
    ).past_key_values
    cells, together = list(batch.cells()), max(1, ROWS // len(ids))
    for start in range(0, len(cells), together):
        some = cells[start : start + together]
        handles = [
            model.model.layers[layer].register_forward_hook(_patch(c, len(some), vector))
            for c, (layer, vector) in enumerate(some)
        ]
        cache = DynamicCache()
        for number, layer in enumerate(before.layers):
            cache.update(*(x.repeat_interleave(len(some), 0) for x in (layer.keys, layer.values)), number)
        logits = model(
            ids[:, -1:].repeat_interleave(len(some), 0), attention_mask=seen.repeat_interleave(len(some), 0),
            position_ids=positions[:, -1:].repeat_interleave(len(some), 0), past_key_values=cache, use_cache=True,
        ).logits[:, -1]  # fmt: skip
        for handle in handles:
            handle.remove()
        yield from logits.view(len(ids), len(some), -1).unbind(1)


def _patch(cell: int, cells: int, vector: Tensor) -> Any:
    def patch(module: Any, args: Any, output: Tensor) -> Tensor:
        output[cell::cells, -1] = vector  # a prompt's cells follow each other
        return output

    return patch
