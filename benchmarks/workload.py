"""A random model, random prompts, and a sweep over them as the library's own plan objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from patchboard.embedded.tokenizer import build
from patchboard.engine.load import facts_of as read_facts
from patchboard.plan.cells import Edit
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import Counterfactual, Group, ModelPlan
from patchboard.spec.sections import ModelSection
from patchboard.tasks.prompt import Prompt

BATCH = 8
HEAD = 64
"""Width of an attention head, in every size of model."""


@dataclass(frozen=True)
class Point:
    """One point of the grid: vectors is the number of cells (vectors) at each layer."""

    layers: int
    tokens: int
    vectors: int

    @property
    def cells(self) -> list[tuple[int, int]]:
        """(layer, vector) in the order of the group's copies."""
        return [(layer, c) for layer in range(self.layers) for c in range(self.vectors)]


def random_llama(layers: int, width: int, vocab: int, device: torch.device, dtype: torch.dtype) -> Any:
    """A Llama with grouped queries (4 heads share a key) and the usual 8/3 of the width inside, random weights."""
    heads = max(4, width // HEAD)
    sizes = dict(
        hidden_size=width, intermediate_size=-(-width * 8 // 3 // 64) * 64, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads // 4, head_dim=width // heads, vocab_size=vocab,
    )  # fmt: skip
    return llama_of(sizes, device, dtype)


def llama_of(sizes: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Any:
    """A Llama of these sizes, as its configuration names them, with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**sizes, bos_token_id=1, eos_token_id=0, pad_token_id=0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # 8B weights made in float32 first would need twice the memory
    try:
        with torch.device(device):
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def tokenizer() -> Any:
    """nnsight asks for one; random tokens need none, so the embedded model's serves."""
    return build()


def random_prompts(count: int, tokens: int, vocab: int, seed: int = 0) -> tuple[Prompt, ...]:
    """Prompts of ``tokens`` random ids with answers of one token."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, vocab, (count, tokens + 1), generator=generator).tolist()
    positions = {"last": (tokens - 1,), "all": tuple(range(tokens))}
    return tuple(Prompt("random", "", "", tuple(row[:-1]), (row[-1],), positions) for row in ids)


def key(layer: int, vector: int) -> str:
    return f"v{vector}/random/{layer}"


def copy_of(layer: int, vector: int) -> Counterfactual:
    """Put a vector in place of the state of the last token behind a block."""
    return Counterfactual((Edit("patch", "resid_post", layer, '"last"', 1.0, key(layer, vector)),))


def group_of(prompts: tuple[Prompt, ...], cells: list[tuple[int, int]]) -> Group:
    """The clean run and one copy a cell, of every prompt."""
    copies = (Counterfactual(), *(copy_of(layer, vector) for layer, vector in cells))
    return Group("random", "random", 0, 0, prompts, (-1,) * len(prompts), copies, 0, (), ("logprob",))


def facts_of(config: Any) -> ModelFacts:
    """What planning needs of the model."""
    return read_facts(ModelSection(name="random"), config)


def plan_of(group: Group, facts: ModelFacts) -> ModelPlan:
    """The group as a plan, so that the library's own cost counts it."""
    return ModelPlan(ModelSection(name="random"), facts, (group,), (), {}, (), {})


def random_vectors(cells: list[tuple[int, int]], width: int, seed: int = 1) -> dict[str, Tensor]:
    """Cell's key -> vector [d_model], float32, of the size that a normalised state has."""
    generator = torch.Generator().manual_seed(seed)
    return {key(layer, vector): torch.randn(width, generator=generator) for layer, vector in cells}
