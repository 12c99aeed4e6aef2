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

_ENDS = (
    (("q_proj", "qkv_proj", "c_attn", "query_key_value"), ("q",)),
    (("k_proj", "qkv_proj", "c_attn", "query_key_value"), ("k",)),
    (("v_proj", "qkv_proj", "c_attn", "query_key_value"), ("v",)),
    (("gate_proj", "gate_up_proj", "mlp.c_fc", "dense_h_to_4h", "fc_in", "fc1"), ("mlp_pre",)),
    (("down_proj", "mlp.c_proj", "dense_4h_to_h", "fc_out", "fc2"), ("mlp_act",)),
)
"""How the modules are called that give queries, keys, values and neurons, whichever family: (ends of names, site)."""


def _module(model: Any, layer: int, site: str) -> Any:
    architecture = architecture_of(model.config)
    block = at_path(model, f"{architecture.decoder}.{architecture.blocks}")[layer]
    paths = {"attn_out": architecture.attention, "mlp_out": architecture.mlp, "head": architecture.attention_out}
    if site in paths:
        return at_path(block, paths[site])
    names = next((names for names, sites in _ENDS if site in sites), ())
    found = [module for name, module in block.named_modules() if name.endswith(names or ("no name",))]
    assert len(found) == bool(names), [name for name, _ in block.named_modules()]
    return found[0] if names else block


def part_of(model: Any, site: str, head: int, width: int) -> slice:
    """Columns of the module's output (or input) of ``width`` that are a head's, or the neurons."""
    config = model.config
    if site == "mlp_pre" and config.model_type in ("phi3", "glm", "glm4"):
        return slice(0, width // 2)  # the gate stands first
    if head < 0:
        return slice(None)
    size, heads = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads, 0
    if config.model_type in ("gpt2", "phi3") and site != "head":  # all of q, all of k, all of v
        shared = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        heads = {"q": 0, "k": config.num_attention_heads, "v": config.num_attention_heads + shared}[site]
    elif config.model_type in ("gpt_neox", "falcon") and site != "head":  # [group, its queries, its key, its value]
        groups = width // size - config.num_attention_heads  # each has two pieces that are no queries
        groups, queries = groups // 2, config.num_attention_heads // (groups // 2)
        names = torch.full((groups, queries + 2), -1)
        if site == "q":
            names[:, :-2] = torch.arange(config.num_attention_heads).view(groups, queries)
        else:
            names[:, -2 if site == "k" else -1] = torch.arange(groups)
        head = names.flatten().tolist().index(head)
    return slice((heads + head) * size, (heads + head + 1) * size)


def _attach(module: Any, site: str, change: Any) -> Any:
    """Call ``change(h)`` on the site's hidden states [1, seq, d_model] during the forward pass."""
    if site in ("resid_pre", "head", "mlp_act"):
        if site == "mlp_act":  # OPT's MLP drops the dimension of one prompt
            shaped = lambda h: change(h if h.dim() == 3 else h[None]).view(h.shape)  # noqa: E731
            return module.register_forward_pre_hook(lambda _, args: (shaped(args[0]), *args[1:]))
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
        # all states that edits take are those of unedited runs: found before any hook is there
        changes = [_change(model, prompt, tokens, edit, operands, donors or {}) for edit in copy.edits]
        for edit, change in zip(copy.edits, changes, strict=True):
            handles.append(_attach(_module(model, edit.layer, edit.site), edit.site, change))
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
    if edit.operand.startswith(STATE):
        donor = None if edit.operand == OWN_STATE else donors[source_of(edit)]
        given = tokens if donor is None else clean_tokens(donor)
        layer, site, position, filled = edit.read or (edit.layer, edit.site, edit.position, False)
        at = list(positions_of(donor or prompt, position, len(given)))
        if filled:
            at = [at[min(n, len(at) - 1)] for n in range(len(where))]
        operand = hooked_states(model, given, layer, site)[at].float()
    else:
        operand = operands[edit.operand] if edit.operand else None
    space = operands.get(edit.subspace)

    def change(h: Tensor) -> Tensor:
        h = h.clone()
        own = part_of(model, edit.site, edit.head, h.shape[-1])
        put = operand[:, own] if operand is not None and edit.operand.startswith(STATE) else operand
        chosen = list(edit.neurons) or slice(None)
        states = h[0, where, own].float()
        if edit.neurons and put is not None and edit.operand.startswith(STATE):
            put = put[:, chosen]
        put = put if space is None else (space, put)
        states[:, chosen] = OPS.get(edit.op, "op").apply(states[:, chosen], put, strength.to(h.device))
        h[0, where, own] = states.to(h.dtype)
        return h

    return change
