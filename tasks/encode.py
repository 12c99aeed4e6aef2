"""Texts as token ids: the text's own tokens, behind what stands in front of every prompt.

A tokenizer may add tokens before and behind a text. Those behind would become part of the answer, so they are left
out; those in front stay, once each, as ``prompts.bos`` says.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from patchboard.errors import ModelError, SpecError
from patchboard.spec.prompts import Bos
from patchboard.tasks.unknown import Offsets, Unknown

TOKENIZER, SPEC, TEXT = "the tokenizer", "prompts.bos", "the prompt's text"
"""Who put a token in front; the text is the template's or a row's."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What is around a prompt's own text.

    front: who put each of the first tokens there. spare, behind: ids that the tokenizer adds in front and behind and
    that are left out. again: whether a token of the front stands in the text once more.
    """

    front: tuple[str, ...] = ()
    spare: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()
    again: bool = False


@dataclass(frozen=True, slots=True)
class Added:
    """What the tokenizer adds around every text (before, behind), and what is put in front of one that begins with
    nothing of it: by whom, and which of the added ids are not."""

    before: tuple[int, ...]
    behind: tuple[int, ...]
    front: tuple[int, ...]
    who: str
    spare: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    """ids and offsets [token] of the front and the text (the front's offsets are empty), or why there are none."""

    ids: list[int]
    offsets: Offsets
    frame: Frame = Frame()
    fault: str = ""


class Encoder:
    """One tokenizer under one setting of ``prompts.bos``.

    Raises ModelError where it gives no character offsets or repeats a text, SpecError where ``bos`` asks for what
    it or the text does not allow.
    """

    def __init__(self, tokenizer: Any, bos: Bos = "auto"):
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                "model.name",
                f"its tokenizer ({type(tokenizer).__name__}) gives no character offsets",
                "use a model with a fast tokenizer (tokenizer.json)",
            )
        if bos is True and tokenizer.bos_token_id is None:
            what = "is true, but the model's tokenizer has no token for the beginning of a text (bos_token)"
            raise SpecError("prompts.bos", what, "use auto or false")
        self.tokenizer, self.bos = tokenizer, bos
        self._unknown = Unknown(tokenizer)
        self._special = set(tokenizer.all_special_ids)
        self._begin = tokenizer.bos_token_id
        self._added: Added | None = None
        self._frames: dict[Frame, Frame] = {}

    def encode(self, texts: list[str]) -> list[Encoded]:
        """Each text's tokens."""
        if not texts:
            return []
        try:
            coded = self._tokens(texts)
        except Exception as error:  # some vocabularies without a token for unknown pieces raise a bare one
            if len(texts) > 1:
                return [one for text in texts for one in self.encode([text])]
            return [Encoded([], (), fault=self._refused(texts[0], error))]
        return [self._framed(*each) for each in zip(texts, coded["input_ids"], coded["offset_mapping"], strict=True)]

    def _tokens(self, texts: list[str]) -> Any:
        """The texts' own tokens: whatever a tokenizer adds, it adds elsewhere."""
        return self.tokenizer(
            texts, add_special_tokens=False, return_offsets_mapping=True, padding=False, truncation=False
        )

    def _refused(self, text: str, error: Exception) -> str:
        for word in text.split():
            try:
                self._tokens([word])
            except Exception:
                return _not_known(word)
        return f"the tokenizer cannot read it ({' '.join(str(error).split())})"

    def _framed(self, text: str, own: list[int], offsets: Offsets) -> Encoded:
        piece = self._unknown.find(text, own, offsets)
        if piece or not own:
            return Encoded([], (), fault=_not_known(piece) if piece else "the tokenizer makes no token of it")
        if self._added is None:
            self._added = self._added_to(text, own, offsets)
        added, front, spare = self._added, self._added.front, self._added.spare
        self._check_begin(own, added)
        typed = next((k for k in range(len(front), 0, -1) if front[-k:] == tuple(own[:k])), 0)
        if typed:  # what the text begins with counts as what would stand in front of it
            front, spare = front[:-typed], (*spare, *front[-typed:])
        begins = {self._begin, *front, *spare}
        lead = next((k for k, i in enumerate(own) if i not in self._special and i not in begins), len(own))
        again = not begins.intersection((*front, *own[:lead])).isdisjoint(own[lead:])
        frame = Frame((added.who,) * len(front) + (TEXT,) * lead, spare, added.behind, again)
        frame = self._frames.setdefault(frame, frame)
        return Encoded([*front, *own], [(0, 0)] * len(front) + list(offsets), frame)

    def _added_to(self, text: str, own: list[int], offsets: Offsets) -> Added:
        """The same for every text, whatever its length."""
        if any(own == own[:n] * (len(own) // n) and offsets[n:] == offsets[:-n] for n in range(1, len(own))):
            raise ModelError(
                "model.name",
                "its tokenizer gives every text more than once (post_processor in tokenizer.json)",
                "mend the post-processor",
            )
        coded = self.tokenizer(text, return_special_tokens_mask=True, padding=False, truncation=False)
        ids, mask = coded["input_ids"], coded["special_tokens_mask"]
        first, last = mask.index(0), len(mask) - mask[::-1].index(0)
        before = tuple(ids[:first])
        if self.bos == "auto":
            front = tuple(i for i, _ in groupby(before))
        else:
            front = (self._begin,) if self.bos else ()
        who = TOKENIZER if set(front) <= set(before) else SPEC
        return Added(before, tuple(ids[last:]), front, who, tuple((Counter(before) - Counter(front)).elements()))

    def _check_begin(self, own: list[int], added: Added) -> None:
        """Raises SpecError for a text that begins with a token that must not stand there, or not so often."""
        bos = {self._begin, *added.before}
        begin = own[: next((k for k, i in enumerate(own) if i not in bos), len(own))]
        if not begin:
            return
        shown = self.tokenizer.convert_ids_to_tokens(begin[0])
        if self.bos is False:
            what = f"is false, but a prompt's text begins with '{shown}'"
        elif begin[0] in added.front and begin[1:2] == begin[:1]:
            what = f"puts '{shown}' in front once, but a prompt's text begins with it {begin.count(begin[0])} times"
        else:
            return
        raise SpecError("prompts.bos", what, f"take '{shown}' out of the template or the rows, or use another bos")


def _not_known(piece: str) -> str:
    return f"{piece!r} is not in the tokenizer's vocabulary"
