"""Plain hooks of somebody who minds the cost: no key-value cache, no logits but the last token's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from peers import Batch, hooks
from peers.hooks import load

__all__ = ["last_logits", "load"]


def last_logits(model: Any, tokenizer: Any, batch: Batch) -> Iterator[Tensor]:
    return hooks.last_logits(model, tokenizer, batch, use_cache=False, logits_to_keep=1)
