"""Small random models, one for each row of the architecture table, and prompts of unequal length."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from interventions.embedded.tokenizer import build
from interventions.spec.sections import TemplateSection
from tasks.base import Item
from tasks.prompts import Prompt, Prompter

# Sizes by the names that each family's configuration uses; windows are shorter than the prompts, so that
# a mask that counts columns instead of positions shows.
SIZES = {
    "llama": dict(hidden_size=48, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
                  num_key_value_heads=2),
    "gemma2": dict(hidden_size=48, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
                   num_key_value_heads=2, head_dim=12, sliding_window=5),
    "gpt2": dict(n_embd=48, n_layer=4, n_head=4, n_positions=128),
}  # fmt: skip


def random_model(family: str, seed: int = 0):
    """A random causal language model of one family over the embedded vocabulary, float32."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        family, vocab_size=len(build().get_vocab()), bos_token_id=1, eos_token_id=0, pad_token_id=0, **SIZES[family]
    )
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # default initialisation is so flat that an edit would hardly show
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model.eval()


def unequal_prompts() -> list[Prompt]:
    """Prompts of 0 to 3 shots, answers of one to three tokens, alternatives under task B."""
    rows = [
        Item("the old baker", {"A": "baker", "B": "old"}),
        Item("he quickly found the boat", {"A": "boat letter", "B": "boat letter he"}),
        Item("river", {"A": "cold river", "B": "river"}),
        Item("we heard him again near the mountain", {"A": "heard", "B": "we heard him"}),
    ]
    prompter = Prompter(build(), TemplateSection(separator="\n"))
    drawn = [rows[i:] for i in range(4)] + [[rows[3], rows[1]], [rows[0], rows[2]]]
    prompts = [prompter.prompts("A", [chosen], others=("A", "B"))[0] for chosen in drawn]
    assert not any(prompt.excluded for prompt in prompts)
    return prompts
