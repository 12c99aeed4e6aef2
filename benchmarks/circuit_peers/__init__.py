"""Interchange and path patching as users of other libraries write them: one forward pass a cell, batched over prompts.

A module a library, each with

    load(folder) -> the library's model
    WORKS -> name of a work: its function (model, pairs) -> logit differences [cell, query], in the order of ``cells``

All prompts have the same number of tokens, so nobody pads. None of the modules imports patchboard.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FILE = "pairs.json"
LAST: dict[str, Any] = {"use_cache": False, "logits_to_keep": 1}
"""Of a forward pass that is spared the key-value cache and all logits but the last token's."""


@dataclass(frozen=True)
class Pairs:
    """Base and source prompts, and which layers' cells are asked for."""

    base: list[list[int]]
    """[query][token]"""
    source: list[list[int]]
    answers: list[int]
    foils: list[int]
    layers: list[int]
    heads: int
    """Of a layer."""
    receivers: list[list[int]]
    """[layer, head] whose queries receive, of the work ``movers``."""

    def tokens(self) -> tuple[Tensor, Tensor]:
        """Base and source, each [query, token]."""
        return torch.tensor(self.base), torch.tensor(self.source)

    def difference(self, logits: Tensor) -> Tensor:
        """[query] logit of the answer less that of the foil. logits: [query, token, vocab]."""
        last, queries = logits[:, -1].float(), torch.arange(len(self.base))
        return last[queries, torch.tensor(self.answers)] - last[queries, torch.tensor(self.foils)]

    def cells(self, work: str) -> list[tuple[int, int]]:
        """(layer, token) of ``positions``, else (layer, head); of ``movers`` the heads before the last receiver."""
        many = len(self.base[0]) if work == "positions" else self.heads
        end = max(layer for layer, _ in self.receivers) if work == "movers" else max(self.layers) + 1
        return [(layer, n) for layer in self.layers if layer < end for n in range(many)]


def write_pairs(pairs: Pairs, folder: Path) -> None:
    (folder / FILE).write_text(json.dumps(asdict(pairs)))


def read_pairs(folder: Path) -> Pairs:
    return Pairs(**json.loads((folder / FILE).read_text()))
