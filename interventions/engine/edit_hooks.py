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
from patchboard.engine.sites import MODULES
from patchboard.ops import FeatureTensors, SubspaceTensors


@dataclass(frozen=True)
class StateEdit:
    """apply: an op's function. operand: float32, on any device. columns: the part of a state that is edited."""

    apply: Callable[[Tensor, Any, Tensor], Tensor]
    operand: Tensor | SubspaceTensors | FeatureTensors | None
    strength: float
    columns: slice | list[int] | None = None

    def edited(self, states: Tensor, chosen: Tensor) -> Tensor:
        """A copy of states [batch, seq, width] with those at ``chosen`` [batch, seq] bool edited."""
        if not chosen.any():
            return states
        part = slice(None) if self.columns is None else self.columns
        rows, cols = (index.to(states.device) for index in chosen.nonzero(as_tuple=True))
        out = states.clone()
        with torch.autocast(states.device.type, enabled=False):
            at = rows, cols, part
            if isinstance(part, list):
                at = rows[:, None], cols[:, None], torch.tensor(part, device=states.device)
            before = states[at].float()
            operand = None if self.operand is None else self.operand.to(states.device)
            if isinstance(operand, Tensor):
                operand = operand.expand(len(before), -1)
            strength = torch.full((len(before), 1), self.strength, device=states.device)
            out[at] = self.apply(before, operand, strength).to(states.dtype)
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

    field, end = MODULES.get(site, ("", "input" if site == "resid_pre" else "output"))
    module = at_path(block, getattr(architecture, field)) if field else block
    handle = module.register_forward_pre_hook(before) if end == "input" else module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()
