"""The loss of vectors that are learned on some pairs, and its gradients, for all vectors at once.

The passes are those of packs (``local``), with a graph from the scores back to the operands. What makes the operands
stays outside: gradients are taken with respect to their tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from patchboard.engine.local import LocalEngine, Scorer
from patchboard.engine.pack_scores import pack_layout
from patchboard.plan.model import Group, Pack
from patchboard.vectors.learned import operand_of

Tensors = Mapping[str, tuple[Tensor, ...]]
"""Key -> an operand's tensors, as ``vectors.learned.operand_of`` takes them."""


@dataclass(frozen=True)
class Slopes:
    """losses [copy] of the group, in nats, on the CPU; gradients: key -> one for each of its operand's tensors."""

    losses: Tensor
    gradients: dict[str, list[Tensor]]


def slopes(engine: LocalEngine, group: Group, packs: Sequence[Pack], tensors: Tensors, score: Scorer) -> Slopes:
    """Of each copy's loss, the mean over the group's prompts of -(log-probability of the answer that it is scored on).

    packs: that hold all of the group. score: log-probabilities of reads, as of metric ``logprob``.
    """
    leaves = {key: tuple(one.detach().requires_grad_() for one in some) for key, some in tensors.items()}
    flat = [leaf for some in leaves.values() for leaf in some]
    operands = {key: operand_of(some) for key, some in leaves.items()}
    total = [torch.zeros_like(leaf) for leaf in flat]
    losses = torch.zeros(len(group.copies), dtype=torch.float64)
    is_edited = torch.tensor([bool(copy.edits) for copy in group.copies])
    for pack in packs:
        if not is_edited[list(pack.copies)].any():
            continue  # clean runs by themselves, where nothing more fits into a pass
        layout = pack_layout(group, pack)
        batch, result = engine.forward(layout, operands, {"score": score}, graded=True)
        of_copy = torch.tensor(pack.copies)[torch.from_numpy(layout.reads.copy)]
        edited = is_edited[of_copy]
        scores = result["scores"]["score"]
        loss = -scores[edited.to(scores.device)] / len(group.prompts)
        found = torch.autograd.grad(loss.sum(), flat, allow_unused=True)
        for sum_, one in zip(total, found, strict=True):
            if one is not None:
                sum_ += one
        losses.index_add_(0, of_copy[edited], loss.detach().double().cpu())
    each = iter(total)
    return Slopes(losses, {key: [next(each) for _ in some] for key, some in leaves.items()})


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """No weight of the model has a gradient inside, so that no graph is kept of what no operand reaches."""
    changed = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in changed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(True)
