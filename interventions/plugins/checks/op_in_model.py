"""An op in a small random model: the engine's two ways, and a plain PyTorch hook."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from patchboard.ops import OPS, FeatureTensors, SubspaceTensors
from patchboard.plan.cells import STATE, Edit
from patchboard.plan.model import Counterfactual, EngineKind
from patchboard.plan.packing import lay_out
from patchboard.registry import Enrolment, Origin
from patchboard.tasks.prompt import Prompt

_UNDER_CHECK = "op-under-check"
_LAYERS, _WIDTH, _WORDS = 3, 16, 40
_STRENGTH = 0.7
_TOLERANCE = 1e-4
"""Logits of two ways differ by sums in another order, in float32."""


@cache
def engine() -> Any:
    """A random Llama behind the engine; its weights are large enough for an edit to show."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from patchboard.embedded.tokenizer import build
    from patchboard.engine.local import LocalEngine

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=_WIDTH, intermediate_size=32, num_hidden_layers=_LAYERS, num_attention_heads=2,
            num_key_value_heads=2, vocab_size=_WORDS, bos_token_id=1, eos_token_id=0, pad_token_id=0,
        )  # fmt: skip
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return LocalEngine(model.eval(), build())


def agrees_in_a_model(op: Any) -> str:
    """What differs in words, "" where nothing does."""
    generator = torch.Generator().manual_seed(3)
    prompts, donors = ([_prompt(length, generator) for length in (4, 7)] for _ in range(2))
    basis, _ = torch.linalg.qr(torch.randn(_WIDTH, 3, generator=generator))
    operands = {
        "vector": torch.randn(_WIDTH, generator=generator),
        "subspace": SubspaceTensors(basis, basis.T.contiguous(), torch.randn(_WIDTH, generator=generator)),
        "features": features(_WIDTH, generator),
    }
    both = op.operand == "subspace and state"
    of_state = ("state", "path", "subspace and state")
    key = f"{STATE}B" if op.operand in of_state else "" if op.operand == "none" else str(op.operand)
    space = "subspace" if both else ""
    edits = [
        Edit(_UNDER_CHECK, "resid_post", layer, '"last"', _STRENGTH, key, subspace=space) for layer in range(_LAYERS)
    ]
    copies = [Counterfactual((edit,)) for edit in edits]
    expected = {
        (i, c): _hooked(op, prompt, donor, edit.layer, operands.get("subspace" if both else op.operand))
        for i, (prompt, donor) in enumerate(zip(prompts, donors, strict=True))
        for c, edit in enumerate(edits)
    }
    OPS.enrol(_UNDER_CHECK, Enrolment(op, Origin("session", "patchboard check"), _UNDER_CHECK))
    try:
        for way in ("wavefront", "rows"):
            far = _largest_difference(way, prompts, donors, copies, operands, expected)
            if not far <= _TOLERANCE:
                return f"{way} differs from a plain hook by {far:.3g} in the logits"
    finally:
        OPS.remove(_UNDER_CHECK)
    return ""


def features(width: int, generator: torch.Generator) -> FeatureTensors:
    """Four features of a dictionary with random directions."""
    encoder, decoder = torch.randn(width, 4, generator=generator), torch.randn(4, width, generator=generator)
    bias, threshold, target = torch.rand(3, 4, generator=generator).unbind()
    center = torch.randn(width, generator=generator)
    return FeatureTensors(encoder, bias, threshold, decoder, center, target, torch.arange(4))


def _largest_difference(
    way: EngineKind, prompts: Any, donors: Any, copies: Any, operands: dict[str, Any], expected: dict[Any, Tensor]
) -> float:
    layout = lay_out(prompts, [-1] * len(prompts), copies, way, donors={"B": donors})
    _, found = engine().forward(layout, operands, {"logits": lambda logits, target, foil, clean: logits})
    reads = zip(layout.reads.prompt.tolist(), layout.reads.copy.tolist(), found["scores"]["logits"], strict=True)
    gaps = [float((logits - expected[prompt, copy]).abs().max()) for prompt, copy, logits in reads]
    return max(gaps) if len(gaps) == len(expected) else float("nan")


def _prompt(length: int, generator: torch.Generator) -> Prompt:
    """Random words with an answer of one token."""
    *words, answer = torch.randint(2, _WORDS, (length + 1,), generator=generator).tolist()
    return Prompt("A", "", "", tuple(words), (answer,), positions={"last": (length - 1,)})


@torch.no_grad()
def _hooked(op: Any, prompt: Prompt, donor: Prompt, layer: int, operand: Any) -> Tensor:
    """Logits [vocab] behind the prompt, its last token edited behind one block."""
    model = engine().module
    block, strength = model.model.layers[layer], torch.full((1, 1), _STRENGTH)
    if op.operand in ("state", "path"):
        operand = _state_behind(model, donor, layer)
    elif op.operand == "subspace and state":
        operand = operand, _state_behind(model, donor, layer)
    elif isinstance(operand, Tensor):
        operand = operand[None]

    def edited(_: Any, __: Any, output: Any) -> Any:
        h = (output[0] if isinstance(output, tuple) else output).clone()
        h[:, -1] = op.apply(h[:, -1], operand, strength)
        return (h, *output[1:]) if isinstance(output, tuple) else h

    handle = block.register_forward_hook(edited)
    try:
        return model(torch.tensor([prompt.token_ids]), use_cache=False).logits[0, -1]
    finally:
        handle.remove()


def _state_behind(model: Any, prompt: Prompt, layer: int) -> Tensor:
    """[1, d_model] of the prompt's last token behind one block."""
    seen: list[Tensor] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        seen.append((output[0] if isinstance(output, tuple) else output)[:, -1].clone())

    handle = model.model.layers[layer].register_forward_hook(keep)
    try:
        model(torch.tensor([prompt.token_ids]), use_cache=False)
    finally:
        handle.remove()
    return seen[0]
