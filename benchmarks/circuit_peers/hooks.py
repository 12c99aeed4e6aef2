"""Plain PyTorch hooks, spared what a pass need not compute; path patching by the four runs of its paper, literally.

Wang et al. 2022, arXiv 2211.00593, appendix B: (1, 2) both prompts are run and kept; (3) for each sender the base is
run with every head at its own state of (1), but the sender at that of (2), and what the receivers get is kept; (4) the
base is run with the receivers given that. MLPs and norms are computed anew in (3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from circuit_peers import LAST, Pairs

Change = Callable[[Tensor], Tensor | None]
Changes = list[tuple[nn.Module, Change]]


def load(folder: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@contextmanager
def changed(inputs: Changes, outputs: Changes = []) -> Iterator[None]:  # noqa: B006  # read only
    """What goes into a module, or comes out of it, is put through its change, which may just look at it."""

    def before(change: Change) -> Any:
        def hook(_: Any, args: tuple, kwargs: dict) -> Any:
            new = change(args[0])
            return None if new is None else ((new, *args[1:]), kwargs)

        return hook

    handles = [module.register_forward_pre_hook(before(change), with_kwargs=True) for module, change in inputs]
    handles += [module.register_forward_hook(lambda m, a, h, f=change: f(h)) for module, change in outputs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def kept_inputs(model: Any, ids: Tensor, modules: list[nn.Module]) -> list[Tensor]:
    """What goes into each module, [query, token, width]."""
    found: list[Tensor] = []
    with changed([(module, lambda h: found.append(h.clone())) for module in modules]):
        model(ids, **LAST)
    return found


def put(source: Tensor, tokens: slice, columns: slice = slice(None)) -> Change:
    """A change that takes these tokens' columns from ``source``."""

    def change(h: Tensor) -> Tensor:
        h = h.clone()
        h[:, tokens, columns] = source[:, tokens, columns]
        return h

    return change


def mixers_of(model: Any) -> list[nn.Module]:
    """The projections that mix the heads' outputs."""
    return [block.self_attn.o_proj for block in model.model.layers]


def columns_of(head: int, width: int, heads: int) -> slice:
    return slice(head * (width // heads), (head + 1) * (width // heads))


@torch.no_grad()
def positions(model: Any, pairs: Pairs) -> Tensor:
    """The source's state of one token before one block."""
    base, source = pairs.tokens()
    blocks = list(model.model.layers)
    states, found = kept_inputs(model, source, blocks), []
    for layer, token in pairs.cells("positions"):
        with changed([(blocks[layer], put(states[layer], slice(token, token + 1)))]):
            found.append(pairs.difference(model(base, **LAST).logits))
    return torch.stack(found)


@torch.no_grad()
def heads(model: Any, pairs: Pairs) -> Tensor:
    """The source's output of one head, at all tokens."""
    base, source = pairs.tokens()
    mixers = mixers_of(model)
    states, found = kept_inputs(model, source, mixers), []
    for layer, head in pairs.cells("heads"):
        columns = columns_of(head, states[layer].shape[-1], pairs.heads)
        with changed([(mixers[layer], put(states[layer], slice(None), columns))]):
            found.append(pairs.difference(model(base, **LAST).logits))
    return torch.stack(found)


Received = dict[nn.Module, Tensor]


def _paths(model: Any, pairs: Pairs, work: str, third: Callable, fourth: Callable) -> Tensor:
    """third: what is filled -> the run that fills it; fourth: what was received -> the run that is given it. Each as
    (inputs, outputs) of ``changed``."""
    base, source = pairs.tokens()
    mixers = mixers_of(model)
    own, other = kept_inputs(model, base, mixers), kept_inputs(model, source, mixers)
    found = []
    for layer, head in pairs.cells(work):
        frozen: Changes = [(mixer, lambda h, kept=kept: kept) for mixer, kept in zip(mixers, own, strict=True)]
        sender = put(other[layer], slice(-1, None), columns_of(head, own[layer].shape[-1], pairs.heads))(own[layer])
        frozen[layer] = mixers[layer], lambda h, sender=sender: sender
        received: Received = {}
        looked_at, looked_out = third(received)
        with changed([*frozen, *looked_at], looked_out):
            model(base, **LAST)
        with changed(*fourth(received)):
            found.append(pairs.difference(model(base, **LAST).logits))
    return torch.stack(found)


@torch.no_grad()
def logits(model: Any, pairs: Pairs) -> Tensor:
    """Paths from a head's last token to the last block's output, of which the norm's input is the same."""
    norm = model.model.norm

    def third(received: Received) -> tuple[Changes, Changes]:
        return [(norm, lambda h: received.update({norm: h}))], []

    def fourth(received: Received) -> tuple[Changes, Changes]:
        return [(norm, put(received[norm], slice(-1, None)))], []

    return _paths(model, pairs, "logits", third, fourth)


@torch.no_grad()
def movers(model: Any, pairs: Pairs) -> Tensor:
    """Paths from a head's last token to the receivers' queries."""
    projections = {layer: model.model.layers[layer].self_attn.q_proj for layer, _ in pairs.receivers}

    def third(received: Received) -> tuple[Changes, Changes]:
        return [], [(module, lambda h, m=module: received.update({m: h})) for module in projections.values()]

    def fourth(received: Received) -> tuple[Changes, Changes]:
        changes = []
        for layer, head in pairs.receivers:
            state = received[projections[layer]]
            columns = columns_of(head, state.shape[-1], pairs.heads)
            changes.append((projections[layer], put(state, slice(-1, None), columns)))
        return [], changes

    return _paths(model, pairs, "movers", third, fourth)


WORKS = {"positions": positions, "heads": heads, "logits": logits, "movers": movers}
