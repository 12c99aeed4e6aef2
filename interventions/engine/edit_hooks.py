"""One edit as a hook on a plain module: the same op functions as in a trace, without nnsight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from patchboard.engine.edited_tokens import EditedTokens
from patchboard.engine.families import architecture_of, at_path
from patchboard.ops import SubspaceTensors


@dataclass(frozen=True)
class StateEdit:
    """apply: an op's function. operand: float32, on any device. columns: the part of a state that is edited."""

    apply: Callable[[Tensor, Any, Tensor], Tensor]
    operand: Tensor | SubspaceTensors | None
    strength: float
    columns: slice | None = None

    def edited(self, states: Tensor, chosen: Tensor) -> Tensor:
        """A copy of states [batch, seq, width] with those at ``chosen`` [batch, seq] bool edited."""
        if not chosen.any():
            return states
        part = slice(None) if self.columns is None else self.columns
        rows, cols = (index.to(states.device) for index in chosen.nonzero(as_tuple=True))
        out = states.clone()
        with torch.autocast(states.device.type, enabled=False):
            before = states[rows, cols, part].float()
            operand = None if self.operand is None else self.operand.to(states.device)
            if isinstance(operand, Tensor):
                operand = operand.expand(len(before), -1)
            strength = torch.full((len(before), 1), self.strength, device=states.device)
            out[rows, cols, part] = self.apply(before, operand, strength).to(states.dtype)
        return out


@contextmanager
def edited_forward(
    model: PreTrainedModel, layer: int, site: str, edit: StateEdit, tokens: EditedTokens
) -> Iterator[None]:
    """Edit the site of that block in every forward pass of the body."""
    architecture = architecture_of(model.config)
    block = at_path(model, f"{architecture.decoder}.{architecture.blocks}")[layer]

    def change(states: Tensor) -> Tensor:
        whole = states if states.dim() == 3 else states.unflatten(0, (tokens.batch, -1))  # OPT's MLP: tokens in one row
        return edit.edited(whole, tokens.chosen).reshape(states.shape)

    def before(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (change(args[0]), *args[1:])

    def after(_: Any, __: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    if site in ("resid_pre", "head"):
        module = block if site == "resid_pre" else at_path(block, architecture.attention_out)
        handle = module.register_forward_pre_hook(before)
    else:
        inside = {"attn_out": architecture.attention, "mlp_out": architecture.mlp}
        module = at_path(block, inside[site]) if site in inside else block
        handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()
