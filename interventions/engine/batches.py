"""The batches of fits and decodings: which prompts go together, what is read of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from interventions.engine.batch import Batch, Capture, make_batch, put
from interventions.plan.layout import Read, Reads
from interventions.plan.model import Copy, Decoding, Fit
from interventions.plan.packing import lay_out
from interventions.plan.suffix import positions_of
from interventions.vectors.base import Place
from tasks.prompts import Prompt


def chunks(prompts: Sequence[Prompt], tokens: int) -> Iterator[Sequence[Prompt]]:
    """Prompts in batches of at most ``tokens`` tokens, padding counted; excluded ones left out."""
    kept = [prompt for prompt in prompts if not prompt.excluded]
    start, widest = 0, 0
    for i, prompt in enumerate(kept):
        width = max(widest, len(prompt.token_ids) + len(prompt.answer_ids))
        if i > start and width * (i - start + 1) > tokens:
            yield kept[start:i]
            start, width = i, len(prompt.token_ids) + len(prompt.answer_ids)
        widest = width
    if start < len(kept):
        yield kept[start:]


def fit_batches(fit: Fit, tokens: int) -> Iterator[tuple[str, int, Batch]]:
    """(task, prompts, batch): one capture of means over the position's tokens for each of the fit's places."""
    for task, prompts in fit.prompts.items():
        for chunk in chunks(prompts, tokens):
            layout = lay_out(chunk, [-1] * len(chunk), [Copy()], "packed")
            yield task, len(chunk), make_batch(layout, [_mean_capture(chunk, p, fit.layers) for p in fit.places])


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
        for chunk in chunks(prompts, tokens):
            layout = lay_out(chunk, [-1] * len(chunk), [Copy()], "packed")
            layout.reads = Reads.of(
                [
                    read
                    for i, prompt in enumerate(chunk)
                    for j, s in enumerate(shots)
                    for read in _shot_reads(i, prompt, s, answer=i * len(shots) + j)
                ]
            )
            rows = [i for i in range(len(chunk)) for _ in shots]
            cols = [_before(prompt, s) for prompt in chunk for s in shots]
            group = put(range(len(rows)))
            capture = Capture("resid_post", tuple(layers), put(rows), put(cols), group, len(rows))
            yield label, len(chunk), make_batch(layout, [capture])


def _before(prompt: Prompt, shots: int) -> int:
    """The token before the answer of row ``shots``."""
    demos = prompt.positions["before_answers"]
    return demos[shots] if shots < len(demos) else prompt.last


def _shot_reads(row: int, prompt: Prompt, shots: int, answer: int) -> list[Read]:
    """Reads of every token of the answer in row ``shots``, entered as answer number ``answer``."""
    tokens = prompt.token_ids + prompt.answer_ids
    if shots < len(prompt.demo_answers):
        where = prompt.demo_answers[shots]
    else:
        where = tuple(range(len(prompt.token_ids), len(tokens)))
    return [Read(answer, 0, j, row, at - 1, tokens[at], -1, row, at - 1) for j, at in enumerate(where)]
