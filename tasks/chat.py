"""What a tokenizer's chat template writes around the turns of a conversation, so that a turn's characters are known.

The template is a program, and may do with a text what it likes. So it is asked once with a mark in place of each turn:
what stands between the marks is the frame. Each prompt's conversation is then rendered by the template itself as well,
and must be frame and turns put together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from patchboard.errors import SpecError

_DAY = {"%d": "26", "%b": "Jul", "%B": "July", "%m": "07", "%Y": "2024", "%y": "24", "%A": "Friday", "%a": "Fri"}
_SAME_DAY = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace('{field}', '{value}')" for field, value in _DAY.items())
    + " }}{% endmacro %}"
)
"""Before a template that asks for the date: a prompt is the same on every day. Llama's have this one by default."""


class Chat:
    """The conversations of one tokenizer: perhaps a ``system`` text, then turns of the user and the assistant, the last
    one the user's, and what opens the assistant's answer to it.

    Raises SpecError where the tokenizer has no template, or one that a system text or turns cannot be told from.
    """

    def __init__(self, tokenizer: Any, system: str | None = None):
        try:
            template = tokenizer.get_chat_template()
        except ValueError:  # none, or several of which none is the default
            what = "is true, and the model's tokenizer has no chat template"
            raise SpecError("prompts.chat", what, "use a model that was tuned on chats, or leave it out") from None
        self.tokenizer, self.system = tokenizer, system
        self.template = (_SAME_DAY if "strftime_now" in template else "") + template
        self.frame = cache(self._frame)

    def rendered(self, turns: Sequence[str]) -> str:
        """The conversation as the template writes it, up to where the answer to the last turn begins."""
        roles = ("user", "assistant")
        messages = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages, chat_template=self.template, tokenize=False, add_generation_prompt=True
                )
            )
        except Exception as error:  # the template's own, of whichever kind
            what = f"the chat template of the model's tokenizer refuses it ({' '.join(str(error).split())[:120]})"
            if self.system is not None:
                raise SpecError("prompts.system", what, "leave it out, or say it in template.prefix") from None
            raise SpecError("prompts.chat", what, "leave it out") from None

    def of_one_turn(self, text: str) -> str | None:
        """The conversation of this turn alone; None where the template changes it."""
        whole = text.join(self.frame(1))
        return whole if whole == self.rendered([text]) else None

    def _frame(self, turns: int) -> tuple[str, ...]:
        """The texts before, between and behind so many turns: one more than there are turns."""
        marks = [f"\ue000{i}\ue001" for i in range(turns)]
        rest, frame = self.rendered(marks), list[str]()
        for mark in marks:
            if rest.count(mark) != 1:
                what = f"is true, and the chat template of the model's tokenizer has a turn {rest.count(mark)} times"
                raise SpecError("prompts.chat", what, "write the turns into prompts.template")
            before, rest = rest.split(mark)
            frame.append(before)
        frame.append(rest)
        if turns > 1 and (frame[0], *frame[1::2]) != (self.frame(1)[0], *[self.frame(1)[1]] * (turns // 2 + 1)):
            # what stands before an answer among the demonstrations would not be the prompt of fewer of them
            what = "is true, and the chat template opens an earlier answer otherwise than the one that is asked for"
            raise SpecError("prompts.chat", what, "use 0 shots everywhere, and decodability: null")
        return tuple(frame)
