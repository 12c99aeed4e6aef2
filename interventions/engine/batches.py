"""The batches of fits and decodings: which prompts go together, what is read of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from patchboard.engine.batch import Batch, Capture, make_batch, put
from patchboard.plan.layout import Read, Reads
from patchboard.plan.model import Counterfactual, Decoding, Fit
from patchboard.plan.packing import lay_out
from patchboard.plan.queries import before_answer
from patchboard.plan.suffix import branches, positions_of
from patchboard.plan.whole_prompts import chunks
from patchboard.tasks.prompt import Prompt
from patchboard.vectors.base import Place


def fit_batches(fit: Fit, tokens: int) -> Iterator[tuple[str, int, Batch]]:
    """(task, prompts, batch): one capture of means over the position's tokens for each of the fit's places."""
    for task, prompts in fit.prompts.items():
        for chunk in chunks(prompts, tokens, [fit.shots]):
            branched = _Branched(chunk, [fit.shots])
            layout = lay_out(branched.prompts, [-1] * len(branched.prompts), [Counterfactual()], "wavefront")
            if branched.reads:
                own = layout.reads.taken(np.flatnonzero(layout.reads.prompt < len(chunk)))
                layout.reads = Reads.joined([own, Reads.of(branched.reads)])
            batch = make_batch(layout, [_mean_capture(chunk, p, fit.layers) for p in fit.places])
            yield task, len(chunk), branched.with_right_answers(batch)


def judge_of(fit: Fit, fits: Iterable[Fit]) -> tuple[str, dict[str, list[int]]] | None:
    """The fit by whose right answers this one goes, and for each of this one's usable prompts the row of its twin among
    that one's usable prompts, task by task; None where it goes by its own."""
    if not fit.judged_by:
        return None
    (judge,) = [other for other in fits if other.id == fit.judged_by]
    rows = {}
    for task, prompts in judge.prompts.items():
        usable = [i for i, prompt in enumerate(prompts) if not prompt.excluded]
        place = {i: row for row, i in enumerate(usable)}
        rows[task] = [place[i] for i, prompt in enumerate(fit.prompts[task]) if not prompt.excluded]
    return judge.id, rows


def _mean_capture(prompts: Sequence[Prompt], place: Place, layers: tuple[int, ...]) -> Capture:
    rows, cols, group = [], [], []
    for i, prompt in enumerate(prompts):
        at = positions_of(prompt, place.position, len(prompt.token_ids) + len(prompt.answer_ids) - 1)
        rows += [i] * len(at)
        cols += at
        group += [i] * len(at)
    return Capture(place.site, layers, put(rows), put(cols), put(group), len(prompts))


def decoding_batches(decoding: Decoding, layers: Sequence[int], tokens: int) -> Iterator[tuple[str, int, Batch]]:
    """(label, prompts, batch): the states before every answer, and whether it is right.

    One pass a prompt serves all numbers of shots: the state before the i-th demonstration's answer
    is that of the i-shot prompt. Prompts are in label order.
    """
    shots = decoding.section.shots
    for label, prompts in decoding.prompts.items():
        for chunk in chunks(prompts, tokens, shots):
            branched = _Branched(chunk, shots)
            layout = lay_out(branched.prompts, [-1] * len(branched.prompts), [Counterfactual()], "wavefront")
            shown = [
                read
                for i, prompt in enumerate(chunk)
                for j, s in enumerate(shots)
                for read in _shot_reads(i, prompt, s, answer=i * len(shots) + j)
            ]
            layout.reads = Reads.of([*shown, *branched.reads])
            rows = [i for i in range(len(chunk)) for _ in shots]
            cols = [before_answer(prompt, s) for prompt in chunk for s in shots]
            group = put(range(len(rows)))
            capture = Capture("resid_post", tuple(layers), put(rows), put(cols), group, len(rows))
            yield label, len(chunk), branched.with_right_answers(make_batch(layout, [capture]))


class _Branched:
    """A chunk and behind it, as rows of their own, the sequences that its prompts' further right answers need.

    prompts: the chunk's, then those; reads: of every token of the further answers. Answers are numbered on from those
    that stand in the prompts, one for each prompt and number of shots.
    """

    def __init__(self, chunk: Sequence[Prompt], shots: Sequence[int]):
        self.prompts: list[Prompt] = [*chunk]
        self.reads: list[Read] = []
        self.right_for = [*range(len(chunk) * len(shots))]
        for i, prompt in enumerate(chunk):
            if prompt.more or prompt.demo_right:
                for j, (start, more) in enumerate(branches(prompt, shots)):
                    for ids in more:
                        self._add(i, prompt.token_ids[:start], ids, i * len(shots) + j)

    def _add(self, row: int, before: tuple[int, ...], ids: tuple[int, ...], thing: int) -> None:
        if len(ids) > 1:  # a single token is told from the state before it, which the prompt's own row has
            row = len(self.prompts)
            self.prompts.append(Prompt("", "", "", before, ids))
        answer, last = len(self.right_for), len(before) - 1
        self.reads += [Read(answer, 0, j, row, last + j, token, -1, row, last) for j, token in enumerate(ids)]
        self.right_for.append(thing)

    def with_right_answers(self, batch: Batch) -> Batch:
        """The batch with what its answers are right answers to."""
        if self.reads:
            batch.right_for = put(self.right_for)
        return batch


def _shot_reads(row: int, prompt: Prompt, shots: int, answer: int) -> list[Read]:
    """Reads of every token of the answer in row ``shots``, entered as answer number ``answer``."""
    tokens = prompt.token_ids + prompt.answer_ids
    if shots < len(prompt.demo_answers):
        where = prompt.demo_answers[shots]
    else:
        where = tuple(range(len(prompt.token_ids), len(tokens)))
    return [Read(answer, 0, j, row, at - 1, tokens[at], -1, row, at - 1) for j, at in enumerate(where)]
