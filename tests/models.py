"""Small random models, one for each row of the architecture table, and prompts of unequal length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from patchboard.embedded.tokenizer import build
from patchboard.spec.prompts import TemplateSection
from patchboard.tasks.base import Item
from patchboard.tasks.prompt import Prompt
from patchboard.tasks.prompts import Prompter

_COMMON = dict(hidden_size=48, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2)
WINDOW = 5

# Sizes by the names that each family's configuration uses; windows are shorter than the prompts, so that
# a mask that counts columns instead of positions shows. Both kinds of layer wherever a family has two.
SIZES: dict[str, dict[str, Any]] = {
    "llama": _COMMON,
    "mistral": {**_COMMON, "sliding_window": WINDOW},
    "phi3": {**_COMMON, "sliding_window": WINDOW},
    "qwen2": {**_COMMON, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2},
    "qwen3": {**_COMMON, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1, "head_dim": 16},
    "gemma2": {**_COMMON, "head_dim": 16, "sliding_window": WINDOW},
    "gemma3_text": {**_COMMON, "head_dim": 16, "sliding_window": WINDOW,
                    "layer_types": ["sliding_attention", "full_attention"] * 2},
    "olmo": {**_COMMON, "clip_qkv": 2.0},
    "olmo2": _COMMON,
    "olmo3": {**_COMMON, "sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "mixtral": {**_COMMON, "sliding_window": WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {**_COMMON, "use_sliding_window": True, "sliding_window": WINDOW, "head_dim": 16, "num_experts": 6,
                  "num_experts_per_tok": 3, "moe_intermediate_size": 32, "mlp_only_layers": [1]},
    "smollm3": {**_COMMON, "use_sliding_window": True, "sliding_window": WINDOW, "no_rope_layers": [1, 0, 1, 0]},
    "granite": {**_COMMON, "embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.1,
                "logits_scaling": 1.5},
    "granitemoe": {**_COMMON, "num_local_experts": 4, "num_experts_per_tok": 2, "residual_multiplier": 0.5},
    "olmoe": {**_COMMON, "num_experts": 6, "num_experts_per_tok": 3},
    "phimoe": {**_COMMON, "sliding_window": WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {**_COMMON, "head_dim": 16, "sliding_window": WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    "cohere": {**_COMMON, "logit_scale": 0.5},
    "cohere2": {**_COMMON, "logit_scale": 0.5, "sliding_window": WINDOW,
                "layer_types": ["sliding_attention", "full_attention"] * 2},
    "glm": {**_COMMON, "head_dim": 16},
    "glm4": {**_COMMON, "head_dim": 16},
    "starcoder2": {**_COMMON, "sliding_window": WINDOW},
    "stablelm": {**_COMMON, "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    "phi": _COMMON,
    "opt": dict(hidden_size=48, word_embed_proj_dim=48, ffn_dim=96, num_hidden_layers=4, num_attention_heads=4,
                max_position_embeddings=128),
    "falcon": dict(hidden_size=48, num_hidden_layers=4, num_attention_heads=4, num_kv_heads=2,
                   new_decoder_architecture=True, max_position_embeddings=128),
    "gptj": dict(n_embd=48, n_layer=4, n_head=4, n_positions=128, rotary_dim=8),
    "gpt2": dict(n_embd=48, n_layer=4, n_head=4, n_positions=128),
    "gpt_neox": dict(hidden_size=48, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
                     max_position_embeddings=128),
    "mamba2": dict(hidden_size=48, num_hidden_layers=4, num_heads=8, head_dim=12, state_size=8, n_groups=2,
                   chunk_size=8),
}  # fmt: skip


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with merges over spaces, as GPT-2's and Llama-3's, with a beginning token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    text = [
        "dogs dogs",
        "the river -> cold mountain",
        "01101 -> 0010",
        "naïve café → résumé",
        "dog -> dogs\ncat -> cats",
    ] * 20
    core.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>"], initial_alphabet=alphabet)
    )
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")


def digit_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Digits a token each, and a space before one as well: ``bytes`` as SmolLM2's, ``pieces`` as Gemma's (a sign for
    spaces, bytes for what the vocabulary lacks)."""
    if kind == "bytes":
        core = Tokenizer(models.BPE())
        single = pre_tokenizers.Digits(individual_digits=True)
        core.pre_tokenizer = pre_tokenizers.Sequence([single, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        core.decoder = decoders.ByteLevel()
        alphabet, special = pre_tokenizers.ByteLevel.alphabet(), ["<s>"]
    else:
        core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        core.normalizer = normalizers.Replace(" ", "▁")
        core.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        alphabet, special = ["▁"], ["<s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    text = ["0", "1", "\n", " ->", "walked", "the river"] * 20
    core.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    )
    if kind == "pieces":
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")


def random_model(family: str, seed: int = 0, **settings: Any):
    """A random causal language model of one family, over the embedded vocabulary if none is given, float32.

    settings: of its configuration, over those of SIZES.
    """
    torch.manual_seed(seed)
    sizes = {"vocab_size": len(build().get_vocab()), **SIZES[family], **settings}
    config = AutoConfig.for_model(family, bos_token_id=1, eos_token_id=0, pad_token_id=0, **sizes)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # default initialisation is so flat that an edit would hardly show
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model.eval()


def idle_model(vocabulary: int, width: int, layers: int) -> LlamaForCausalLM:
    """A Llama of one head whose matrices are all zero, for a test to plant something in."""
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=8, num_hidden_layers=layers,
        num_attention_heads=1, num_key_value_heads=1, tie_word_embeddings=False, bos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.zero_()
    return model


def save(model: Any, folder: Path) -> Path:
    """The folder, which then holds the model and the embedded tokenizer in the Hub's format."""
    model.save_pretrained(folder)
    build().save_pretrained(folder)
    return folder


ROWS = [
    Item("the old baker", {"A": "baker", "B": "old"}),
    Item("he quickly found the boat", {"A": "boat letter", "B": "boat letter he"}),
    Item("river", {"A": "cold river", "B": "river"}),
    Item("we heard him again near the mountain", {"A": "heard", "B": "we heard him"}),
]


def _prompts(drawn: list[list[Item]], task: str) -> list[Prompt]:
    prompter = Prompter(build(), TemplateSection(separator="\n"))
    prompts = [prompter.prompts(task, [chosen], others=("A", "B"))[0] for chosen in drawn]
    assert not any(prompt.excluded for prompt in prompts)
    return prompts


def unequal_prompts(task: str = "A") -> list[Prompt]:
    """Prompts of 0 to 3 shots, answers of one to three tokens, alternatives under the other task."""
    return _prompts([ROWS[i:] for i in range(4)] + [[ROWS[3], ROWS[1]], [ROWS[0], ROWS[2]]], task)


def shared_prompts() -> list[Prompt]:
    """Prompts that share two demonstrations, of queries of unequal length."""
    return _prompts([[ROWS[0], ROWS[2], query] for query in (ROWS[1], ROWS[3], ROWS[2])], "A")
