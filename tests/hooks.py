"""The oracle: plain PyTorch hooks, one forward pass for one prompt and one copy.

No packing, no padding, no nnsight, and its own reading of what an edit means, so that agreement with
the engine says something. Slow: for a few cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from patchboard.engine.families import architecture_of, at_path
from patchboard.ops import OPS
from patchboard.plan.cells import OWN_STATE, STATE, Edit, source_of
from patchboard.plan.model import Counterfactual
from patchboard.plan.suffix import clean_tokens, positions_of
from patchboard.tasks.prompt import Prompt


def _module(model: Any, layer: int, site: str) -> Any:
    architecture = architecture_of(model.config)
    block = at_path(model, f"{architecture.decoder}.{architecture.blocks}")[layer]
    paths = {"attn_out": architecture.attention, "mlp_out": architecture.mlp, "head": architecture.attention_out}
    return at_path(block, paths[site]) if site in paths else block


def _attach(module: Any, site: str, change: Any) -> Any:
    """Call ``change(h)`` on the site's hidden states [1, seq, d_model] during the forward pass."""
    if site in ("resid_pre", "head"):
        return module.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))

    def after(_: Any, __: Any, output: Any) -> Any:
        h = output[0] if isinstance(output, tuple) else output
        changed = change(h if h.dim() == 3 else h[None]).view(h.shape)  # OPT's MLP drops the dimension of one prompt
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return module.register_forward_hook(after)


@torch.no_grad()
def hooked_states(model: Any, tokens: tuple[int, ...], layer: int, site: str) -> Tensor:
    """Clean states [seq, d_model] of one prompt at one place."""
    kept = []
    handle = _attach(_module(model, layer, site), site, lambda h: kept.append(h[0].clone()) or h)
    try:
        model(torch.tensor([tokens], device=model.device), use_cache=False)
    finally:
        handle.remove()
    return kept[0]


@torch.no_grad()
def hooked_logits(
    model: Any,
    prompt: Prompt,
    copy: Counterfactual,
    operands: Mapping[str, Any],
    donors: Mapping[str, Prompt] | None = None,
) -> Tensor:
    """Logits [answer token, vocab] at each answer token of one prompt under one copy's edits.

    donors: source -> the prompt whose states an edit of that source takes.
    """
    answer = prompt.right(copy.target)[copy.answer]
    tokens = prompt.token_ids + answer[:-1]
    handles = []
    try:
        for edit in copy.edits:
            handles.append(
                _attach(
                    _module(model, edit.layer, edit.site),
                    edit.site,
                    _change(model, prompt, tokens, edit, operands, donors or {}),
                )
            )
        logits = model(torch.tensor([tokens], device=model.device), use_cache=False).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    return logits[prompt.last :]


def _change(
    model: Any, prompt: Prompt, tokens: tuple[int, ...], edit: Edit,
    operands: Mapping[str, Any], donors: Mapping[str, Prompt],
) -> Any:  # fmt: skip
    where = list(positions_of(prompt, edit.position, len(tokens)))
    strength = torch.tensor([[edit.strength]])
    if edit.operand == OWN_STATE:
        operand = hooked_states(model, tokens, edit.layer, edit.site)[where].float()
    elif source_of(edit):
        donor = donors[source_of(edit)]
        given = clean_tokens(donor)
        operand = hooked_states(model, given, edit.layer, edit.site)[
            list(positions_of(donor, edit.position, len(given)))
        ].float()
    else:
        operand = operands[edit.operand] if edit.operand else None

    def change(h: Tensor) -> Tensor:
        h = h.clone()
        own = slice(None)
        if edit.site == "head":
            size = h.shape[-1] // model.config.num_attention_heads
            own = slice(edit.head * size, (edit.head + 1) * size)
        put = operand[:, own] if operand is not None and edit.operand.startswith(STATE) else operand
        h[0, where, own] = (
            OPS.get(edit.op, "op").apply(h[0, where, own].float(), put, strength.to(h.device)).to(h.dtype)
        )
        return h

    return change
