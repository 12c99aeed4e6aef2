"""pyvene: an intervenable model a cell, the source prompt given with the call (its interchange tutorials)."""

from __future__ import annotations

from typing import Any

import pyvene  # pyright: ignore[reportMissingImports]  # a peer, not a dependency
import torch
from torch import Tensor

from circuit_peers import LAST, Pairs
from circuit_peers.hooks import load

__all__ = ["WORKS", "load"]


def _of(made: Any, pairs: Pairs, where: Any) -> Tensor:
    """It runs the source anew at each call."""
    base, source = ({"input_ids": ids, "logits_to_keep": LAST["logits_to_keep"]} for ids in pairs.tokens())
    _, output = made(base, [source], {"sources->base": where}, use_cache=LAST["use_cache"])
    return pairs.difference(output.logits)


@torch.no_grad()
def positions(model: Any, pairs: Pairs) -> Tensor:
    """The source's state of one token before one block."""
    found = []
    for layer, token in pairs.cells("positions"):
        made = pyvene.IntervenableModel({"layer": layer, "component": "block_input"}, model=model)
        found.append(_of(made, pairs, token))
    return torch.stack(found)


@torch.no_grad()
def heads(model: Any, pairs: Pairs) -> Tensor:
    """The source's output of one head, at all tokens."""
    queries, tokens = pairs.tokens()[0].shape
    found = []
    for layer, head in pairs.cells("heads"):
        place = {"layer": layer, "component": "head_attention_value_output", "unit": "h.pos", "max_number_of_units": 1}
        made = pyvene.IntervenableModel(place, model=model)
        there = [[[[head]] * queries, [list(range(tokens))] * queries]]
        found.append(_of(made, pairs, (there, there)))
    return torch.stack(found)


WORKS = {"positions": positions, "heads": heads}
