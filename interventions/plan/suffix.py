"""What one counterfactual computes of one prompt: its suffix, from the earliest token that can differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from patchboard.plan.cells import Edit, lenders_of
from patchboard.plan.edges import Edge, edges_between
from patchboard.plan.model import Counterfactual
from patchboard.spec.positions import name_and_end
from patchboard.tasks.prompt import Prompt

UNEDITED = -1
"""In place of a copy's number: the run without edits."""


@lru_cache
def _names(position: str) -> tuple[tuple[str | int, str | None], ...]:
    """Each name or index, and which end of what it names is meant."""
    value = json.loads(position)
    names = value if isinstance(value, list) else [value]
    return tuple((name, None) if isinstance(name, int) else name_and_end(name) for name in names)


def positions_of(prompt: Prompt, position: str, length: int) -> tuple[int, ...]:
    """Token indices of a spec position (JSON text) in a sequence of ``length`` tokens.

    `answer` means the forced answer tokens of that sequence. A span that the prompt's row does not have names no
    token. Integers count the prompt's tokens,
    negative ones from its end; one that the prompt doesn't have names no token.
    """
    indices: set[int] = set()
    size = len(prompt.token_ids)
    for name, end in _names(position):
        if isinstance(name, int):
            indices.update([name + size if name < 0 else name] if -size <= name < size else [])
        else:
            at = range(size, length) if name == "answer" else prompt.positions.get(name, ())
            indices.update(at if end is None else at[:1] if end == "first" else at[-1:])
    return tuple(sorted(indices))


@dataclass(frozen=True)
class Suffix:
    """What one copy computes of one prompt: tokens from ``start`` on; empty where nothing differs."""

    tokens: tuple[int, ...]  # the whole sequence: prompt and forced answer tokens
    start: int
    edited: tuple[tuple[Edit, tuple[int, ...]], ...]  # each edit, and its token indices
    answer: tuple[int, ...]
    lent: tuple[tuple[Counterfactual, Suffix], ...] = ()
    """The runs that lend the copy states, and what they compute."""

    @property
    def length(self) -> int:
        return len(self.tokens) - self.start

    @property
    def computed(self) -> int:
        """Tokens of the copy and of the runs that lend it states."""
        return self.length + sum(own.length for _, own in self.lent)


def suffix_of(prompt: Prompt, copy: Counterfactual) -> Suffix | None:
    """The copy's suffix, or None where it cannot be computed for this prompt.

    None: the prompt is excluded, has no such answer under the copy's target, or an edit's position
    names no token of it (its edges none that could be cut); so of a run that lends it states.
    """
    right = prompt.right(copy.target)
    if prompt.excluded or copy.answer >= len(right):
        return None
    answer = right[copy.answer]
    tokens = prompt.token_ids + answer[:-1]
    places: dict[tuple, tuple[int, ...]] = {}  # edits of one copy are mostly the same at many layers
    edited = []
    for edit in copy.edits:
        place = edit.position, edit.origin, edit.draw
        if place not in places:
            places[place] = _edited(prompt, edit, len(tokens))
        edited.append((edit, places[place]))
    lending = runs_of(copy)[1:]
    lent = tuple((run, own) for run in lending if (own := suffix_of(prompt, run)) is not None)
    if not all(places.values()) or len(lent) < len(lending):
        return None
    start = min([shared_tokens(prompt, tokens), *(at[0] for at in places.values())])
    return Suffix(tokens, start, tuple(edited), answer, lent)


def edges_of(prompt: Prompt, edit: Edit, length: int) -> tuple[Edge, ...]:
    """The edges that an edit of the mask cuts in a sequence of ``length`` tokens; there may be none to cut."""
    origins, targets = (positions_of(prompt, position, length) for position in (edit.origin, edit.position))
    return edges_between(origins, targets, edit.draw)


def _edited(prompt: Prompt, edit: Edit, length: int) -> tuple[int, ...]:
    """The tokens that it is made at: of edges those that lose one."""
    if edit.origin:
        return tuple(dict.fromkeys(at for at, _ in edges_of(prompt, edit, length)))
    return positions_of(prompt, edit.position, length)


def clean_tokens(prompt: Prompt) -> tuple[int, ...]:
    """The sequence of the prompt's clean run: prompt and own answer, teacher-forced but for its last token."""
    return prompt.token_ids + prompt.answer_ids[:-1]


def shared_tokens(prompt: Prompt, tokens: tuple[int, ...]) -> int:
    """How many of the first ``tokens`` are those of the prompt's clean run."""
    clean = clean_tokens(prompt)
    pairs = enumerate(zip(tokens, clean, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(tokens), len(clean)))


def runs_of(copy: Counterfactual) -> tuple[Counterfactual, ...]:
    """The copy, and the runs that lend it states."""
    return (copy, *(replace(copy, edits=lender.edits) for lender in lenders_of(copy.edits)))


def same_runs(copies: Sequence[Counterfactual]) -> list[int]:
    """[copy] a number that copies of the same edits share, so that these are compared once; none: ``UNEDITED``."""
    numbers: dict[tuple[Edit, ...], int] = {(): UNEDITED}
    return [numbers.setdefault(copy.edits, c) for c, copy in enumerate(copies)]


def first_block(copy: Counterfactual) -> int:
    """The first block whose input or inside the copy's edits change: below it the copy is the unedited run.

    The output of block l is the input of block l + 1, so an edit there is one of that input.
    """
    return min((edit.layer + (edit.site == "resid_post") for edit in copy.edits), default=0)


Shape = tuple
"""All of a prompt on which its copies' suffixes depend; many prompts of a group have the same."""


def shape_of(prompt: Prompt) -> Shape:
    """Empty for an excluded prompt."""
    if prompt.excluded:
        return ()
    alternatives = tuple((task, ids[:-1]) for task, ids in prompt.alternatives.items())
    more = tuple((task, tuple(answer.ids[:-1] for answer in answers)) for task, answers in prompt.more.items())
    sources = tuple((name, tuple(ids[:-1] for ids in source.right())) for name, source in prompt.sources.items())
    return len(prompt.token_ids), prompt.answer_ids[:-1], tuple(prompt.positions.items()), alternatives, more, sources


def branches(prompt: Prompt, shots: Sequence[int]) -> list[tuple[int, tuple[tuple[int, ...], ...]]]:
    """Right answers to rows of a prompt beside those that stand in it: for each of ``shots``, (where the answer
    begins, ids of the further ones); as many shots as there are demonstrations mean the query."""
    answers = []
    for s in shots:
        if s < len(prompt.demo_answers):
            at = prompt.demo_answers[s]
            shown = tuple(prompt.token_ids[i] for i in at)
            answers.append((at[0], tuple(ids for ids in prompt.demo_right.get(s, ()) if ids != shown)))
        else:
            answers.append((len(prompt.token_ids), prompt.right()[1:]))
    return answers


def branch_tokens(prompt: Prompt, shots: Sequence[int]) -> list[int]:
    """Tokens of each sequence of its own that the ``branches`` take: one that is a single token takes none."""
    return [start + len(ids) - 1 for start, more in branches(prompt, shots) for ids in more if len(ids) > 1]
