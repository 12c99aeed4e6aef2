"""TransformerLens 4: the functions of its ``patching`` module, over the bridge, which keeps the weights as they are.

What it calls the corrupted tokens is what is run, the clean cache is what states are taken from: here base and source.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor
from transformer_lens import patching  # pyright: ignore[reportMissingImports]  # a peer, not a dependency
from transformer_lens.model_bridge import TransformerBridge  # pyright: ignore[reportMissingImports]

from circuit_peers import Pairs


def load(folder: str) -> Any:
    return TransformerBridge.boot_transformers(folder, device="cpu")


def _patched(model: Any, pairs: Pairs, work: str, function: Any, column: str) -> Tensor:
    base, source = pairs.tokens()
    with torch.no_grad():
        _, cache = model.run_with_cache(source)
        cells = pd.DataFrame(pairs.cells(work), columns=["layer", column])
        axes = {"index_axis_names": None, "index_df": cells}
        return function(model, base, cache, pairs.difference, reduce="none", **axes).values


def positions(model: Any, pairs: Pairs) -> Tensor:
    """The source's state of one token before one block."""
    return _patched(model, pairs, "positions", patching.get_act_patch_resid_pre, "pos")


def heads(model: Any, pairs: Pairs) -> Tensor:
    """The source's output of one head, at all tokens."""
    return _patched(model, pairs, "heads", patching.get_act_patch_attn_head_out_all_pos, "head")


WORKS = {"positions": positions, "heads": heads}
