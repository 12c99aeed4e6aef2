"""What a tokenizer does not know: text that it cannot give back, whether or not it has a token that says so.

Three kinds: a piece that became the token for unknown ones (which may be a token with a text of its own: GPT-2's is
``<|endoftext|>``, and where that text stands it is no unknown one); characters that were left out, as a BPE without
such a token does; and characters of which only some bytes are known. What the tokenizer's own normaliser removes or
rewrites (accents, case, control characters) is known, and so is white space, which many tokenizers drop.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

Offsets = Sequence[tuple[int, int]]

_LOST = "\N{REPLACEMENT CHARACTER}"


class Unknown:
    """Finds the first piece of a text that a tokenizer does not know."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.normalizer = tokenizer.backend_tokenizer.normalizer
        self.texts = {i: str(tokenizer.convert_ids_to_tokens(i)) for i in _unknown_ids(tokenizer)}
        """Ids of tokens for unknown pieces -> the text that stands for each of them where it is typed."""
        self._alone: dict[str, bool] = {}

    def find(self, text: str, ids: Sequence[int], offsets: Offsets) -> str:
        """The piece, "" where all is known. ids, offsets: of the text alone, without what a tokenizer adds."""
        return self._replaced(text, ids, offsets) or self._left_out(text, offsets) or self._broken(text, ids, offsets)

    def _replaced(self, text: str, ids: Sequence[int], offsets: Offsets) -> str:
        if self.texts.keys().isdisjoint(ids):
            return ""
        for i, (a, b) in zip(ids, offsets, strict=True):
            if i in self.texts and text[a:b].strip() != self.texts[i]:  # its token may take the spaces beside it
                return text[a:b] or self.texts[i]
        return ""

    def _left_out(self, text: str, offsets: Offsets) -> str:
        end = 0
        for a, b in (*offsets, (len(text), len(text))):
            gap = text[end:a]
            if gap and not gap.isspace() and self._outlives_normalizer(text[:end], gap):
                return self._tokenless(text) or gap.strip()
            end = max(end, b)
        return ""

    def _tokenless(self, text: str) -> str:
        """The first character that alone becomes no token. The gap may be behind it: a BPE counts offsets by tokens."""
        for token in self.tokenizer.all_special_tokens:
            text = text.replace(token, "")
        for character in sorted(dict.fromkeys(text), key=str.isspace):
            if character not in self._alone:
                self._alone[character] = bool(self.tokenizer(character, add_special_tokens=False)["input_ids"])
            if not self._alone[character]:
                return character
        return ""

    def _outlives_normalizer(self, before: str, gap: str) -> bool:
        """Whether characters without a token were there when the model of the vocabulary was asked."""
        if self.normalizer is None:
            return True
        alone = self.normalizer.normalize_str(gap).strip()
        if not alone:
            return False
        # "e" and an accent become one character, whose offsets name the "e" only
        return self.normalizer.normalize_str(before[-1:] + gap).strip().endswith(alone)

    def _broken(self, text: str, ids: Sequence[int], offsets: Offsets) -> str:
        if text.isascii() or _LOST in text or _LOST not in self.tokenizer.decode(ids):
            return ""
        for at, character in enumerate(text):
            over = [i for i, (a, b) in zip(ids, offsets, strict=True) if a <= at < b]
            if not character.isascii() and _LOST in self.tokenizer.decode(over):
                return character
        return ""


def _unknown_ids(tokenizer: Any) -> set[int]:
    """Of the token that the tokenizer declares, and of the one that its model uses, declared or not."""
    core = tokenizer.backend_tokenizer
    ids = {tokenizer.unk_token_id, core.token_to_id(getattr(core.model, "unk_token", None) or "")}
    if type(core.model).__name__ == "Unigram" and tokenizer.unk_token_id is None:
        ids.add(json.loads(core.to_str())["model"]["unk_id"])  # which has no other way to tell
    return ids - {None}
