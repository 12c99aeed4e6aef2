"""What a user would write or install instead: one forward pass a cell, batched over the prompts.

Each rival is built on a model and a batch of prompts, and called with cells [(layer, vector [d_model])]; it
gives the last token's logits [batch, vocab] of each. All of them are spared the key-value cache and the
logits of other tokens, which a loop written without care computes as well.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

Cells = Sequence[tuple[int, Tensor]]
Rival = Callable[[Cells], list[Tensor]]

FORWARD: dict[str, Any] = {"use_cache": False, "logits_to_keep": 1}


class Hooks:
    """Plain PyTorch: register a hook on the block, run, remove it. What the ratios are held against."""

    def __init__(self, model: Any, ids: Tensor, _: Any):
        self.model, self.ids = model, ids

    @torch.no_grad()
    def clean(self) -> Tensor:
        return self.model(self.ids, **FORWARD).logits[:, -1]

    @torch.no_grad()
    def __call__(self, cells: Cells) -> list[Tensor]:
        found = []
        for layer, vector in cells:

            def patch(_: Any, __: Any, output: Any, vector: Tensor = vector) -> None:
                hidden = output[0] if isinstance(output, tuple) else output
                hidden[:, -1] = vector

            handle = self.model.model.layers[layer].register_forward_hook(patch)
            found.append(self.model(self.ids, **FORWARD).logits[:, -1])
            handle.remove()
        return found


class Nnsight:
    """Plain nnsight: one trace a cell."""

    def __init__(self, model: Any, ids: Tensor, tokenizer: Any):
        from nnsight import TransformersModel

        self.model, self.ids = TransformersModel(model, tokenizer=tokenizer, task="text-generation"), ids

    def __call__(self, cells: Cells) -> list[Any]:
        found = []
        model: Any = self.model
        with torch.no_grad():
            for layer, vector in cells:
                with model.trace(self.ids, **FORWARD):
                    model.model.layers[layer].output[:, -1] = vector
                    logits = model.output.logits[:, -1].save()
                found.append(logits)
        return found


class Pyvene:
    """pyvene: one intervenable model a layer, as its sweeps are written; its vector is given with the call."""

    def __init__(self, model: Any, ids: Tensor, _: Any):
        self.model, self.ids = model, ids

    @torch.no_grad()
    def __call__(self, cells: Cells) -> list[Tensor]:
        import pyvene  # pyright: ignore[reportMissingImports]  # a rival, not a dependency

        found, made, now = [], None, -1
        last = self.ids.shape[1] - 1
        for layer, vector in cells:
            if made is None or layer != now:
                place = pyvene.RepresentationConfig(layer, "block_output", "pos", 1)
                config = pyvene.IntervenableConfig([place], intervention_types=pyvene.VanillaIntervention)
                made, now = pyvene.IntervenableModel(config, self.model), layer
            source = {name: vector.expand(len(self.ids), 1, -1) for name in made.interventions}
            base = {"input_ids": self.ids, "logits_to_keep": FORWARD["logits_to_keep"]}
            _, output = made(
                base, unit_locations={"base": last}, source_representations=source, use_cache=FORWARD["use_cache"]
            )
            found.append(output.logits[:, -1])
        return found


class TransformerLens:
    """TransformerLens 4: its bridge around a copy of the model (it replaces submodules in place)."""

    def __init__(self, model: Any, ids: Tensor, _: Any):
        from transformer_lens.model_bridge.sources import build_bridge_from_module  # pyright: ignore[reportMissingImports]

        self.ids = ids
        own = copy.deepcopy(model)
        self.model = build_bridge_from_module(own, type(own).__name__, hf_config=own.config)

    @torch.no_grad()
    def __call__(self, cells: Cells) -> list[Tensor]:
        found = []
        for layer, vector in cells:

            def patch(hidden: Tensor, hook: Any, vector: Tensor = vector) -> Tensor:
                hidden[:, -1] = vector
                return hidden

            hooks = [(f"blocks.{layer}.hook_out", patch)]
            found.append(self.model.run_with_hooks(self.ids, fwd_hooks=hooks, **FORWARD)[:, -1])
        return found


PEERS: dict[str, tuple[str, type]] = {
    "nnsight": ("nnsight", Nnsight),
    "pyvene": ("pyvene", Pyvene),
    "transformer_lens": ("transformer_lens", TransformerLens),
}
"""Rival -> the module that must be installed for it, and its class."""


def missing() -> list[str]:
    """Peers that are not installed beside this interpreter."""
    return [name for name, (module, _) in PEERS.items() if find_spec(module) is None]
