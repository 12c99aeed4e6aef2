"""Hold a family's row against the loaded model: its paths, then what really flows through them.

One forward pass of two rows of three tokens under plain hooks. A row that is wrong in a way that paths cannot
tell (a norm that isn't the last, say) fails here in one line instead of giving wrong numbers later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from patchboard.engine.families import ROWS_FILE, Architecture, at_path, head_dim_of
from patchboard.engine.parts import kv_heads_of, neurons_of
from patchboard.errors import ModelError

_TOKENS = ((0, 1, 2), (0, 1, 0))
"""Two rows that differ in the last token only: whatever stands before it must come out alike."""

_LEAK = 0.02
"""Largest relative difference before the last token, of two rows of one batch. The measured one is 0 or float
rounding; a model that looks ahead differs by half or more of the states' size."""


@dataclass(frozen=True)
class _Seen:
    """Input and output of one module's call. None: it was called without hidden states in the first place."""

    given: Tensor | None
    returned: Tensor | None


def check_architecture(model: Any, architecture: Architecture) -> None:
    """Hold the row against the loaded model, in evaluation mode or not.

    Checked: every path is there; as many blocks as configured; blocks, attention and MLP give
    [batch, seq, hidden_size], the MLP perhaps [batch * seq, hidden_size]; ``attention_out`` takes
    [batch, seq, num_attention_heads * head_dim], the other projections are as wide as their heads and neurons; each
    block's output is the next one's first positional input, the last one's the final norm's, the norm's the head's; no
    token sees a later one.
    Raises ModelError: what was looked for, what was found, what to correct.
    """
    _check_paths(model, architecture)
    seen = _hooked_pass(model, architecture)
    _check_shapes(model.config, architecture, seen)
    _check_flow(model.config.num_hidden_layers, architecture, seen)
    states = seen[_norm(architecture)].returned
    assert states is not None  # its shape was checked
    first, second = states[0, :-1].float(), states[1, :-1].float()
    if (first - second).abs().max() > _LEAK * first.abs().max():
        raise ModelError(
            "model.name",
            "changing a token changed the states before it: its attention looks ahead",
            "give a causal language model (packing and teacher forcing rest on that)",
        )


def _mismatch(architecture: Architecture, looked_for: str, measured: str, field: str) -> ModelError:
    return ModelError(
        "model.name",
        f"looked for {looked_for}, found {measured}",
        f"correct `{field}` in the row '{architecture.model_type}' of {ROWS_FILE}, or give a checkpoint that is laid "
        "out as most of its family",
    )


def _blocks(architecture: Architecture) -> str:
    return f"{architecture.decoder}.{architecture.blocks}"


def _norm(architecture: Architecture) -> str:
    return f"{architecture.decoder}.{architecture.norm}"


_FIELDS = ("attention", "mlp", "attention_out", "q", "k", "v", "mlp_up", "mlp_down")


def _parts(architecture: Architecture) -> dict[str, str]:
    """Field of the row -> path of the module in the first block. Parts that the family lacks are left out."""
    fields = {name: getattr(architecture, name) for name in _FIELDS}
    return {name: f"{_blocks(architecture)}.0.{path}" for name, path in fields.items() if path}


def _check_paths(model: Any, architecture: Architecture) -> None:
    places = {
        "decoder": architecture.decoder, "blocks": _blocks(architecture), **_parts(architecture),
        "norm": _norm(architecture), "head": architecture.head,
    }  # fmt: skip
    for field, path in places.items():
        at, walked = model, type(model).__name__
        for name in path.split("."):
            below = [child for child, _ in at.named_children()]
            if name not in below:
                raise _mismatch(
                    architecture, f"a module '{path}'", f"{', '.join(below[:12]) or 'none'} in {walked}", field
                )
            at, walked = getattr(at, name), name
    blocks, declared = at_path(model, _blocks(architecture)), model.config.num_hidden_layers
    if len(blocks) != declared:
        raise _mismatch(architecture, f"the {declared} blocks of its configuration", f"{len(blocks)}", "blocks")


def _states(value: Any) -> Tensor | None:
    """Hidden states of what a module was given or returned: a tensor, or what begins with one."""
    if isinstance(value, tuple):
        value = value[0] if value else None
    return value if isinstance(value, Tensor) else None


def _hooked_pass(model: Any, architecture: Architecture) -> dict[str, _Seen]:
    blocks = [f"{_blocks(architecture)}.{i}" for i in range(model.config.num_hidden_layers)]
    seen: dict[str, _Seen] = {}
    handles = []
    for path in (*blocks, *_parts(architecture).values(), _norm(architecture), architecture.head):

        def keep(_: Any, args: Any, output: Any, path: str = path) -> None:
            seen[path] = _Seen(_states(args), _states(output))

        handles.append(at_path(model, path).register_forward_hook(keep))
    training = model.training
    try:
        tokens = torch.tensor(_TOKENS, device=model.device)
        with torch.no_grad():
            model.eval()(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return seen


def _check_shapes(config: Any, architecture: Architecture, seen: dict[str, _Seen]) -> None:
    states = (len(_TOKENS), len(_TOKENS[0]), config.hidden_size)
    parts = _parts(architecture)
    outputs = {"blocks": f"{_blocks(architecture)}.0"}
    outputs |= {field: parts[field] for field in ("attention", "mlp") if field in parts}
    wanted = {(field, path, "output"): states for field, path in outputs.items()}
    for field, (end, width) in _widths(config, architecture).items():
        if field in parts:
            wanted[field, parts[field], end] = (*states[:2], width)
    for (field, path, end), shape in wanted.items():
        if path not in seen:
            raise _mismatch(architecture, f"a call of '{path}' in a forward pass", "none", field)
        tensor = seen[path].given if end == "input" else seen[path].returned
        found = None if tensor is None else tuple(tensor.shape)
        if field.startswith("mlp") and found is not None and len(found) == 2:
            found = (
                (*states[:2], found[-1]) if found[0] == states[0] * states[1] else found
            )  # all in one row, as in OPT
        if field == "mlp_up" and found == (*shape[:2], 2 * shape[2]):
            continue  # the gate and what it lets through, side by side
        if found != shape:
            raise _mismatch(
                architecture,
                f"an {end} of '{path}' of shape {list(shape)}",
                "no tensor in the first place" if found is None else f"{list(found)}",
                field,
            )


def _widths(config: Any, architecture: Architecture) -> dict[str, tuple[str, int]]:
    """Field of the row -> which end of its module is how wide, where heads or neurons lie side by side."""
    if not architecture.attention_out:
        return {}
    head, heads, shared = head_dim_of(config), config.num_attention_heads, kv_heads_of(config)
    own = {"q": heads, "k": shared, "v": shared}
    widths = {field: ("output", (heads + 2 * shared if architecture.fused else n) * head) for field, n in own.items()}
    neurons = neurons_of(config)
    return widths | {
        "attention_out": ("input", heads * head), "mlp_up": ("output", neurons), "mlp_down": ("input", neurons),
    }  # fmt: skip


def _check_flow(layers: int, architecture: Architecture, seen: dict[str, _Seen]) -> None:
    """Each module is given what the one before it returned, in value (some models cast or reshape between)."""
    stack = [f"{_blocks(architecture)}.{i}" for i in range(layers)]
    chain = [(path, "blocks") for path in stack] + [(_norm(architecture), "norm"), (architecture.head, "head")]
    for (giver, _), (taker, field) in zip(chain, chain[1:], strict=False):
        taken = seen[taker].given if taker in seen else None
        returned = seen[giver].returned if giver in seen else None
        if taken is None or returned is None or not _same(taken, returned):
            raise _mismatch(
                architecture,
                f"the output of '{giver}' as the first positional input of '{taker}'",
                "no tensor there" if taken is None else "other values",
                field,
            )


def _same(taken: Tensor, returned: Tensor) -> bool:
    if taken.shape != returned.shape:
        return False
    return torch.allclose(taken, returned.to(taken.dtype), rtol=0, atol=0, equal_nan=True)
