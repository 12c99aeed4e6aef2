"""transformers' GPT-2 for continuous inputs: a linear read-in instead of tokens, a linear read-out instead of logits.

It stays a causal language model of GPT-2's family to everything else, over a vocabulary of one: the "logits" of a
token are the predicted y. So the engine runs it by the same trace code,
given embeddings in place of token ids.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from patchboard.experiments.synthetic.settings import ModelSection
from patchboard.plan.facts import ModelFacts
from patchboard.spec.sites import SITES


class Regressor(nn.Module):
    """Predicts y from every x token. inputs: numbers of an x; a token holds one more, for y."""

    def __init__(self, config: GPT2Config, inputs: int):
        super().__init__()
        self.language = GPT2LMHeadModel(config)
        self.read_in = nn.Linear(inputs + 1, config.n_embd)
        self.language.lm_head = nn.Linear(config.n_embd, 1)  # with a bias, which a language model's head has not
        for layer in (self.read_in, self.language.lm_head):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    @property
    def device(self) -> torch.device:
        return self.read_in.weight.device

    def predictions(self, tokens: Tensor) -> Tensor:
        """tokens [sequence, 2 pairs, inputs + 1] -> y [sequence, pair], as predicted at the x tokens."""
        states = self.language.transformer(inputs_embeds=self.read_in(tokens), use_cache=False)
        return self.language.lm_head(states.last_hidden_state[:, 0::2])[..., 0]


def build_model(section: ModelSection, inputs: int, pairs: int, seed: int) -> Regressor:
    """With random weights, told by the seed; dropout off: the data never repeat."""
    config = GPT2Config(
        vocab_size=1, n_positions=2 * pairs, n_embd=section.width, n_layer=section.layers, n_head=section.heads,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=section.spread, tie_word_embeddings=False,
        activation_function="gelu_pytorch_tanh",  # gelu_new's formula in one kernel
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    # on sequences so short faster than "sdpa": a third of a step on a CPU in bf16
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Regressor(config, inputs)


def facts_of(section: ModelSection, pairs: int) -> ModelFacts:
    """What planning needs to know of it."""
    return ModelFacts(
        family="gpt2", layers=section.layers, width=section.width, vocab=1, heads=section.heads,
        head_dim=section.width // section.heads, sites=SITES, context=2 * pairs,
        kv_heads=section.heads, neurons=4 * section.width,
    )  # fmt: skip
