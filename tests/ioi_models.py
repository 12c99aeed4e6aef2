"""Random models whose tokenizer has a token for each word of the family ioi."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from patchboard.tasks.families.ioi import NAMES, OBJECTS, PLACES, TEMPLATES
from tests.models import random_model


def ioi_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, of so many merges that each word of the family is one token, with or without a space before it."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    words = [*NAMES, *PLACES, *OBJECTS, *(word for template in TEMPLATES for word in template.split())]
    text = [form for word in words for form in (word, f" {word}")] * 5
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(text, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", pad_token="<s>")


def saved_ioi_model(folder: Path, family: str, **settings: Any) -> Path:
    """A random model's folder. settings: of its configuration."""
    tokenizer = ioi_tokenizer()
    random_model(family, vocab_size=len(tokenizer), **settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
