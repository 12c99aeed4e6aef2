"""The next token of each text: the likeliest, or one that is drawn."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def uniforms(seed: int, texts: Iterable[tuple[str, int, int]], tokens: int) -> Tensor:
    """[text, token] float64 in [0, 1), by each text's (task, query, sample) and the seed alone: a text's draws depend
    neither on the batch that it is in nor on what is edited, so that a text and its edited one are told by the same."""
    rows = [
        np.random.default_rng([seed, zlib.crc32(task.encode()), query, sample]).random(tokens)
        for task, query, sample in texts
    ]
    return torch.from_numpy(np.stack(rows))


def next_tokens(logits: Tensor, temperature: float, drawn: Tensor) -> Tensor:
    """logits [text, vocab], drawn [text] uniform in [0, 1) -> ids [text]: at temperature 0 the likeliest token, else
    the first one at which p(tokens up to it) exceeds ``drawn``, p = softmax(logits / temperature).

    The sums are in float64: in float32 a vocabulary's last tokens would be lost in rounding.
    """
    if temperature == 0:
        return logits.argmax(-1)
    reached = (logits.double() / temperature).softmax(-1).cumsum(-1)
    wanted = drawn.to(logits.device)[:, None] * reached[:, -1:]
    return torch.searchsorted(reached, wanted, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
