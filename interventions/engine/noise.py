"""Noise that edits add to states: what is drawn, and in which units. Travels to a server as source.

A draw is told by integers alone (what the plan gives the edit, the query, the token), so that it is the same however
cells are packed, whether a run is resumed, and wherever the model is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from patchboard.engine.families import at_path

if TYPE_CHECKING:
    from patchboard.engine.batch import Batch, EditGroup
    from patchboard.engine.wiring import Wiring

UNIT = "@embedding_sd"
"""Operand that noise is measured in: the standard deviation of the numbers in the model's token embeddings."""
_MOST_TOKENS = 4096
"""Of the vocabulary, evenly over it: their numbers are enough for a deviation."""
_ENTERED = 16
"""Tokens that are sent through the model, to see by what factor embeddings enter the first block."""


def seeds_of(group: EditGroup, batch: Batch) -> Tensor:
    """[edit] the seed of each edited token's draw, 32 bits, mixed from the edit's own, the query and the position."""
    assert group.seeds is not None and group.queries is not None and batch.queries is not None
    seeds = group.seeds
    for part in (batch.queries[group.queries], batch.positions[group.rows, group.cols]):
        seeds = ((seeds ^ part) * 0x5BD1E995) & 0xFFFFFFFF
        seeds = seeds ^ (seeds >> 15)
    return seeds


def standard_normal(seeds: Tensor, width: int) -> Tensor:
    """[edit, width] float32 on the CPU: a row of standard normal numbers for each seed, equal ones for equal seeds.

    Devices and their vector units draw or round differently: so on the CPU, and in float64.
    """
    each, place = seeds.cpu().unique(return_inverse=True)
    rows = [
        torch.randn(width, generator=torch.Generator().manual_seed(int(seed)), dtype=torch.float64) for seed in each
    ]
    return torch.stack(rows).float()[place]


def embedding_sd(model: Any, wiring: Wiring, embedding: str, vocab: int, device: Any) -> Tensor:
    """Standard deviation of the numbers in the token embeddings as they enter the first block, float32 [].

    embedding: path of the input embeddings' module. It is asked what it gives, since code on a server may have modules
    without weights. Families multiply embeddings before the first block, and add learned positions, which are none of
    the token's own: so tokens at one position are compared, of which only the factor is left.
    """
    blocks = at_path(at_path(model, wiring.architecture.decoder), wiring.architecture.blocks)
    table = at_path(model, embedding)
    ids = torch.arange(0, vocab, max(1, -(-vocab // _MOST_TOKENS)), device=device)
    some = ids[:: max(1, len(ids) // _ENTERED)]
    with torch.no_grad(), model.trace({"input_ids": some[:, None]}, use_cache=False, logits_to_keep=1):
        found = {}
        found.save()  # pyright: ignore[reportAttributeAccessIssue]  # nnsight's, on every object
        found["given"] = table(ids)
        found["entered"] = blocks[0].input[:, 0]
    given, entered = found["given"].double().cpu(), found["entered"].double().cpu()
    own = given[:: max(1, len(ids) // _ENTERED)]
    factor = (entered - entered.mean(0)).square().mean() / (own - own.mean(0)).square().mean()
    return (given.std(correction=0) * factor.sqrt()).float()
