"""What the code of a trace must know of a model. Travels to a server as source, as do all modules that it serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from patchboard.engine.families import Architecture

Functions = Mapping[str, Callable[..., Any]]


class Wiring:
    """What the trace code must know of a model: where its parts are, its window, its heads and neurons, its dtype.

    slots: of each site by head, which piece of ``head_dim`` numbers is each head's (``parts.slots_of``). vocab, tail:
    width of the head's output, and what the model does to it: (softcap, times or over, by) or ("", 1).
    """

    def __init__(
        self, architecture: Architecture, window: int, slots: Mapping[str, Sequence[int]], head_dim: int, neurons: int,
        dtype: torch.dtype, vocab: int = 0, tail: tuple[str, float] = ("", 1.0),
    ):  # fmt: skip
        self.architecture, self.window, self.dtype = architecture, window, dtype
        self.slots, self.head_dim, self.neurons = slots, head_dim, neurons
        self.vocab, self.tail = vocab, tail
        self.heads = len(slots["head"]) if slots else 0
