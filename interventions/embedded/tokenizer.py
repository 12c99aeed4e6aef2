"""The embedded model's tokenizer: every word, number, "->" and line break is one token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from patchboard.tasks.families.bitwise import EMBEDDED_BITS, OPERATORS
from patchboard.tasks.grammar import LEXICON

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def vocabulary(bits: int = EMBEDDED_BITS) -> list[str]:
    """All tokens in id order. Task names are there for prompts that state the task."""
    numbers = [f"{i:0{bits}b}" for i in range(1 << bits)]
    words = [word for tag in LEXICON.values() for word in tag]
    return ["<pad>", "<bos>", "<unk>", "\n", "->", "the", *OPERATORS, *LEXICON, "Null", *numbers, *words]


def build(bits: int = EMBEDDED_BITS) -> PreTrainedTokenizerFast:
    """A word-level tokenizer with true character offsets and a leading ``<bos>``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {token: i for i, token in enumerate(vocabulary(bits))}
    core = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", ids["<bos>"])])
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", unk_token="<unk>", padding_side="left"
    )
