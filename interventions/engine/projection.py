"""Heads' outputs through the attention's output projection, in a trace: wherever the weights are.

Travels to a server as source. Code that runs there may have modules without weights (NDIF's sandbox), so the
projection is asked what it makes of given rows, and no weight is read. Linear, Conv1D and quantised ones alike.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from patchboard.engine.families import at_path
from patchboard.engine.wiring import Wiring


def projected(
    model: Any, wiring: Wiring, inputs: dict[str, Tensor], head_means: dict[int, Tensor], device: Any
) -> dict[int, Tensor]:
    """Block -> [row, d_model], float32 on the CPU: each row of ``head_means`` times the block's output projection.

    head_means: block -> [row, heads * head_dim], heads side by side. inputs: of a forward pass of one token, in
    which the modules are called. Beside each row goes one of zeros: what comes of it is the bias, which is taken off.
    One row a call: a product of more rows rounds in another way, and jobs that hold more or fewer are
    to agree to the bit.
    """
    architecture = wiring.architecture
    blocks = at_path(at_path(model, architecture.decoder), architecture.blocks)
    modules = {block: at_path(blocks[block], architecture.attention_out) for block in head_means}
    rows = {
        block: [torch.stack([row, torch.zeros_like(row)])[None].to(device, wiring.dtype) for row in each]
        for block, each in head_means.items()
    }
    with torch.no_grad(), model.trace(inputs, use_cache=False, logits_to_keep=1):
        outputs = {}
        outputs.save()  # pyright: ignore[reportAttributeAccessIssue]  # nnsight's, on every object
        for block, module in modules.items():
            outputs[block] = torch.cat([module(pair) for pair in rows[block]]).float()
    return {block: (pairs[:, 0] - pairs[:, 1]).cpu() for block, pairs in outputs.items()}
