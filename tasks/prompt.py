"""One in-context prompt as token ids with named positions; ``prompts`` makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from patchboard.tasks.encode import Frame

_NONE: dict[Any, Any] = {}
"""Of the many prompts that have nothing to keep there; never written to."""


class Answer(NamedTuple):
    """A right answer, and its ids behind the prompt."""

    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One in-context prompt, tokenised together with its answer."""

    task: str
    text: str
    """Everything before the answer, without the template's output text."""
    answer: str
    token_ids: tuple[int, ...] = ()
    """[prompt] ids up to and including `last`; the answer's follow in ``answer_ids``."""
    answer_ids: tuple[int, ...] = ()
    positions: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Named position -> token indices in order; `answer` counts on behind the prompt's end."""
    demo_answers: tuple[tuple[int, ...], ...] = ()
    """[demonstration] -> token indices of that demonstration's answer."""
    alternatives: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Other task -> ids of this query's answer under that task (where it has one)."""
    excluded: str = ""
    frame: Frame = Frame()
    """What of ``token_ids`` is not the text's own, and what was left out."""
    more: Mapping[str, tuple[Answer, ...]] = field(default_factory=lambda: _NONE)
    """Task, the prompt's own among them -> further right answers to this query (``right_answers``)."""
    demo_right: Mapping[int, tuple[tuple[int, ...], ...]] = field(default_factory=lambda: _NONE)
    """Demonstration -> ids of all its right answers, where they were asked for and there are several."""
    foils: tuple[int, ...] = ()
    """First ids of the wrong answers that the row brings."""
    sources: Mapping[str, Prompt] = field(default_factory=lambda: _NONE)
    """Name -> the counterfactual prompt whose states this one may be given: the same demonstrations, another query."""
    starts: tuple[int, ...] = field(default=(), compare=False)
    """Of each of ``token_ids``, where its characters begin in ``text``; none where it is not made of text."""
    answers_lost: int = 0
    """Further right answers that no tokens behind this prompt's are."""

    def right(self, target: str = "") -> tuple[tuple[int, ...], ...]:
        """Ids of all right answers under a task (own: ""), the first first; none where it has no answer. target: may be
        one of ``sources`` as well, and then they are those to that prompt."""
        if target in self.sources and target not in self.alternatives:
            return self.sources[target].right()
        first = self.alternatives.get(target, ()) if target else self.answer_ids
        return (first, *(answer.ids for answer in self.more.get(target or self.task, ()))) if first else ()

    def differs(self, target: str) -> bool:
        """Whether it has answers under that target, and none of them is right under its own task."""
        theirs = self.right(target)
        return bool(theirs) and not set(theirs).intersection(self.right())

    @property
    def last(self) -> int:
        """Index of the token before the answer."""
        return len(self.token_ids) - 1
