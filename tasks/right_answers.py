"""Several right answers to one query: which of them count, as token ids behind the prompt's own tokens.

An answer that begins with all tokens of another one is left out: what is measured is whether the text goes on with a
right answer, and then the shorter one was given already. So no two answers can both be what the model says, and
their probabilities add up to that of "one of them".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from patchboard.tasks.base import Item
from patchboard.tasks.prompt import Answer, Prompt

Forced = Callable[[Sequence[tuple[str, tuple[int, ...], str]]], list[tuple[int, ...]]]
"""Of each (text before the answer, its ids, answer): the answer's ids; empty where the text's own would change."""


def distinct(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    """The answers in order, without those that repeat another one or begin with its tokens."""
    kept = {answer.ids: answer for answer in reversed(answers)}
    return tuple(
        answer
        for answer in dict.fromkeys(kept[each.ids] for each in answers)
        if not any(answer.ids[:length] in kept for length in range(1, len(answer.ids)))
    )


def with_right_answers(
    prompts: Sequence[Prompt], drawn: Sequence[Sequence[Item]], ends: Sequence[Sequence[int]], others: Sequence[str],
    shots: Sequence[int], forced: Forced,
) -> list[Prompt]:  # fmt: skip
    """The same prompts, each with all right answers to its query, under its own task and under ``others``.

    drawn: each prompt's rows; ends: where in its text each demonstration's input ends. shots: of the demonstrations so
    numbered all right answers are wanted as well.
    """
    return [
        _with_all(prompt, rows, of_prompt, others, shots, forced)
        if not prompt.excluded and any(item.more for item in rows)
        else prompt
        for prompt, rows, of_prompt in zip(prompts, drawn, ends, strict=True)
    ]


def _with_all(
    prompt: Prompt, rows: Sequence[Item], ends: Sequence[int], others: Sequence[str], shots: Sequence[int],
    forced: Forced,
) -> Prompt:  # fmt: skip
    *demos, query = rows
    before = prompt.text, prompt.token_ids
    own, lost = _all(Answer(prompt.answer, prompt.answer_ids), query, prompt.task, before, forced)
    more, alternatives = {prompt.task: own[1:]}, dict(prompt.alternatives)
    for task in set(others) & alternatives.keys():
        right, _ = _all(Answer(query.answers[task], alternatives[task]), query, task, before, forced)
        alternatives[task], more[task] = right[0].ids, right[1:]
    demo_more = {}
    for s in (s for s in shots if s < len(demos)):
        tokens = prompt.demo_answers[s]
        shown = Answer("", tuple(prompt.token_ids[i] for i in tokens))
        text = prompt.text[: ends[s]], prompt.token_ids[: tokens[0]]
        demo_more[s] = tuple(answer.ids for answer in _all(shown, demos[s], prompt.task, text, forced)[0])
    first = own[0]
    answer_at = tuple(range(len(prompt.token_ids), prompt.last + len(first.ids)))
    return replace(
        prompt,
        answer=first.text,
        answer_ids=first.ids,
        positions={**prompt.positions, "answer": answer_at},
        alternatives=alternatives,
        more={task: answers for task, answers in more.items() if answers},
        demo_right={s: answers for s, answers in demo_more.items() if len(answers) > 1},
        answers_lost=lost,
    )


def _all(
    first: Answer, item: Item, task: str, before: tuple[str, tuple[int, ...]], forced: Forced
) -> tuple[tuple[Answer, ...], int]:
    """The different right answers, ``first`` among them, and how many cannot be told from the text's tokens."""
    texts = item.more.get(task, ())
    ids = forced([(*before, text) for text in texts])
    answers = [first, *(Answer(text, each) for text, each in zip(texts, ids, strict=True) if each)]
    return distinct(answers), ids.count(())
