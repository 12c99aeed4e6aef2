"""Prompts as token ids with named positions, found through the tokenizer's character offsets.

Nothing is found by counting tokens: a field's tokens are those whose characters overlap the field's,
so any tokenizer that reports offsets will do. A row whose answer does not begin at a token boundary
is kept, marked as excluded with the reason, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from patchboard.errors import TaskError
from patchboard.spec.positions import POSITIONS
from patchboard.spec.prompts import Bos, TemplateSection
from patchboard.tasks.base import Item
from patchboard.tasks.chat import Chat
from patchboard.tasks.encode import Encoded, Encoder, Frame
from patchboard.tasks.prompt import Prompt
from patchboard.tasks.render import Fields, of_turns, placed, render, render_chat
from patchboard.tasks.right_answers import with_right_answers
from patchboard.tasks.unknown import Offsets

_AT_ONCE = 256
"""Prompts tokenised together: a token's id and offsets take 200 bytes until its prompt is made of them."""


def tokens_over(offsets: Offsets, span: tuple[int, int]) -> tuple[int, ...]:
    """Indices of the tokens that share a character with ``span``."""
    low, high = span
    return tuple(i for i, (a, b) in enumerate(offsets) if a < high and b > low)


def _first_answer_token(text: str, offsets: Offsets, end: int, span: tuple[int, int]) -> int | None:
    """The answer's first token, or None where it also holds characters of what comes before ``end``.

    White space before the answer may belong to its first token, as in byte-level vocabularies.
    """
    tokens = tokens_over(offsets, span)
    if not tokens:
        return None
    return tokens[0] if offsets[tokens[0]][0] >= len(text[:end].rstrip(" ")) else None


class Prompter:
    """Turns drawn rows into prompts with one tokenizer and one template."""

    def __init__(
        self, tokenizer: Any, template: TemplateSection, bos: Bos = "auto", chat: bool = False,
        system: str | None = None,
    ):  # fmt: skip
        """chat: whether prompts are conversations, perhaps with a ``system`` text. Raises SpecError as ``Chat``."""
        self.encoder, self.template = Encoder(tokenizer, bos), of_turns(template) if chat else template
        self.chat = Chat(tokenizer, system) if chat else None
        # Ten thousand prompts are mostly the same numbers and the same few layouts: each is held once.
        self._ids: dict[int, int] = {}
        self._answers: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._layouts: dict[tuple, tuple[Mapping[str, Sequence[int]], tuple[tuple[int, ...], ...]]] = {}

    def prompts(
        self, task: str, drawn: Sequence[Sequence[Item]], others: Sequence[str] = (), shots: Sequence[int] = ()
    ) -> list[Prompt]:
        """One prompt for each drawn list of rows; the last row is the query.

        others: tasks whose answers to the query are wanted as ``alternatives``. shots: demonstrations of which all
        right answers are wanted.
        """
        return [
            prompt
            for start in range(0, len(drawn), _AT_ONCE)
            for prompt in self._some(task, drawn[start : start + _AT_ONCE], others, shots)
        ]

    def _some(
        self, task: str, drawn: Sequence[Sequence[Item]], others: Sequence[str], shots: Sequence[int]
    ) -> list[Prompt]:
        fields = [self._rendered(task, rows) for rows in drawn]
        whole, spans = [], []
        for f, rows in zip(fields, drawn, strict=True):
            text, span = self._with_answer(f.text, rows[-1].answers[task])
            whole.append(text)
            spans.append(span)
        plain = [
            self._align(task, f, rows[-1].answers[task], text, span, coded)
            for f, rows, text, span, coded in zip(fields, drawn, whole, spans, self.encoder.encode(whole), strict=True)
        ]
        plain = [_with_added_positions(prompt) for prompt in plain]
        queries = [rows[-1] for rows in drawn]
        whole = self._add_alternatives(plain, queries, others) if others else plain
        right = with_right_answers(whole, drawn, [f.demo_ends for f in fields], others, shots, self._forced)
        return self._add_sources(task, self._add_foils(right, queries), drawn)

    def _rendered(self, task: str, rows: Sequence[Item]) -> Fields:
        if self.chat is None:
            return render(self.template, task, rows)
        return render_chat(self.chat, self.template, task, rows)

    def _with_answer(self, text: str, answer: str) -> tuple[str, tuple[int, int]]:
        part, span = placed(self.template.output, "output", answer, len(text))
        return text + part[: span[1] - len(text)], span

    def _align(self, task: str, f: Fields, answer: str, text: str, span: tuple[int, int], coded: Encoded) -> Prompt:
        def left_out(why: str) -> Prompt:
            return Prompt(task, f.text, answer, excluded=why)

        if f.fault or coded.fault:
            return left_out(f.fault or coded.fault)
        ids, offsets = coded.ids, coded.offsets
        start = _first_answer_token(text, offsets, len(f.text), span)
        if start is None:
            return left_out("the answer does not begin at a token boundary")
        if start == 0:
            return left_out("the prompt has no token before the answer")
        demo_answers, before = [], []
        for end, output in zip(f.demo_ends, f.demo_outputs, strict=True):
            first = _first_answer_token(text, offsets, end, output)
            if first is None:
                return left_out("a demonstration's answer does not begin at a token boundary")
            demo_answers.append(tuple(i for i in tokens_over(offsets, output) if i < start))
            before.append(first - 1)
        positions = {
            "last": (start - 1,),
            "answer": tuple(range(start, len(ids) - 1)),
            "query": tuple(i for i in tokens_over(offsets, f.query) if i < start),
            "demo_inputs": tuple(i for s in f.demo_inputs for i in tokens_over(offsets, s)),
            "demo_outputs": tuple(i for answer_tokens in demo_answers for i in answer_tokens),
            "before_answers": tuple(before),
            "all": range(start),
            **{name: tuple(i for i in tokens_over(offsets, span) if i < start) for name, span in f.spans.items()},
        }
        layout = positions, tuple(demo_answers)
        layout = self._layouts.setdefault((*positions.items(), layout[1]), layout)
        same = tuple(self._ids.setdefault(i, i) for i in ids)
        return Prompt(
            task, f.text, answer, same[:start], self._same_answer(same[start:]), *layout,
            frame=self._frame(coded), starts=tuple(self._ids.setdefault(a, a) for a, _ in offsets[:start]),
        )  # fmt: skip

    def _frame(self, coded: Encoded) -> Frame:
        """What stands around the text. Turns of a chat may well begin with the token that begins the text."""
        return coded.frame if self.chat is None else _without_again(coded.frame)

    def _same_answer(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        return self._answers.setdefault(ids, ids)

    def _add_alternatives(self, prompts: list[Prompt], queries: list[Item], others: Sequence[str]) -> list[Prompt]:
        """The same prompts, each with its query's answers under the other tasks, as ids.

        An alternative is left out where the prompt's own tokens would change with it, or where it is not known.
        """
        wanted = [
            (n, other)
            for n, (prompt, query) in enumerate(zip(prompts, queries, strict=True))
            for other in others
            if other != prompt.task and other in query.answers and not prompt.excluded
        ]
        forced = self._forced(
            [(prompts[n].text, prompts[n].token_ids, queries[n].answers[other]) for n, other in wanted]
        )
        alternatives_of: list[dict[str, tuple[int, ...]]] = [{} for _ in prompts]
        for (n, other), answer in zip(wanted, forced, strict=True):
            if answer:
                alternatives_of[n][other] = answer
        return [
            replace(prompt, alternatives=alternatives)
            for prompt, alternatives in zip(prompts, alternatives_of, strict=True)
        ]

    def _add_foils(self, prompts: list[Prompt], queries: list[Item]) -> list[Prompt]:
        """The same prompts, each with the first ids of its row's wrong answers; one that would change the prompt's own
        tokens is left out."""
        wanted = [
            (n, foil)
            for n, (prompt, query) in enumerate(zip(prompts, queries, strict=True))
            for foil in query.foils.get(prompt.task, ())
            if not prompt.excluded
        ]
        if not wanted:
            return prompts
        forced = self._forced([(prompts[n].text, prompts[n].token_ids, foil) for n, foil in wanted])
        of_prompt: dict[int, list[int]] = {}
        for (n, _), ids in zip(wanted, forced, strict=True):
            if ids:
                of_prompt.setdefault(n, []).append(ids[0])
        return [replace(prompt, foils=tuple(of_prompt.get(n, ()))) for n, prompt in enumerate(prompts)]

    def _add_sources(self, task: str, prompts: list[Prompt], drawn: Sequence[Sequence[Item]]) -> list[Prompt]:
        """The same prompts, each with those of its row's sources: the same demonstrations before another query."""
        of_prompt: list[dict[str, Prompt]] = [{} for _ in prompts]
        for name in dict.fromkeys(name for rows in drawn for name in rows[-1].sources):
            having = [n for n, rows in enumerate(drawn) if name in rows[-1].sources]
            rows = [[*drawn[n][:-1], _source_of(drawn[n][-1], name, task)] for n in having]
            for n, source in zip(having, self._some(task, rows, (), ()), strict=True):
                of_prompt[n][name] = source
        return [replace(p, sources=found) if found else p for p, found in zip(prompts, of_prompt, strict=True)]

    def _forced(self, texts: Sequence[tuple[str, tuple[int, ...], str]]) -> list[tuple[int, ...]]:
        """Of each (text before the answer, its ids, answer): the answer's ids; empty where the text's own ids would
        change with it."""
        rows = self.encoder.encode([self._with_answer(text, answer)[0] for text, _, answer in texts])
        return [
            self._same_answer(tuple(row.ids[len(ids) :])) if tuple(row.ids[: len(ids)]) == ids else ()
            for row, (_, ids, _) in zip(rows, texts, strict=True)
        ]


@cache
def _without_again(frame: Frame) -> Frame:
    return replace(frame, again=False)


def _source_of(item: Item, name: str, task: str) -> Item:
    """The row's source of that name; one without an answer of its own is followed by the row's."""
    source = item.sources[name]
    return source if task in source.answers else replace(source, answers={task: item.answers[task]})


def _with_added_positions(prompt: Prompt) -> Prompt:
    """The prompt with the positions that plug-ins have registered. Raises TaskError for one that is not in it."""
    added = {name: position.find for name, position in POSITIONS.items() if position.find is not None}
    if prompt.excluded or not added:
        return prompt
    found = {}
    for name, find in added.items():
        at = tuple(sorted(set(map(int, find(prompt)))))
        if at and not 0 <= at[0] <= at[-1] < len(prompt.token_ids):
            what = f"gave token {at[0] if at[0] < 0 else at[-1]} of a prompt of {len(prompt.token_ids)} tokens"
            raise TaskError(f"position '{name}'", what, "count from 0 to the prompt's last token")
        found[name] = at
    return replace(prompt, positions={**prompt.positions, **found})


def show_tokens(prompt: Prompt, tokenizer: Any) -> str:
    """One line a token: index, text, and the names of the positions that it stands at."""
    lines = []
    for i, token in enumerate(prompt.token_ids + prompt.answer_ids):
        names = [name for name, at in prompt.positions.items() if i in at and name != "all"]
        if i > prompt.last:
            names.append("(answer)")
        lines.append(f"{i:4d}  {tokenizer.decode([token])!r:<20} {' '.join(names)}".rstrip())
    for ids in prompt.right()[1:]:
        lines.append(f"      also right: {' '.join(repr(tokenizer.decode([token])) for token in ids)}")
    return "\n".join(lines)
