"""What a plan asks of a model beside scores: fitted statistics, and states before answers. On plain batches.

Functions here travel to a server as source, like ``trace``; the local engine calls the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from patchboard.engine.batch import Batch
    from patchboard.vectors.statistics import PlaceStatistics

Forward = Callable[..., dict[str, Any]]
"""(batch, operands, scorers) -> what ``trace.traced_forward`` returns."""


def all_right(batch: Batch, hits: Tensor, count: int) -> Tensor:
    """hits [read] of the answers to ``count`` things -> [thing] bool on the CPU: every token of one of them right."""
    answers = count if batch.right_for is None else len(batch.right_for)
    right = torch.ones(answers, dtype=torch.bool)
    assert batch.answers is not None
    right[batch.answers.cpu()[hits.cpu() == 0]] = False
    if batch.right_for is None:
        return right
    found = torch.zeros(count, dtype=torch.bool)
    found[batch.right_for.cpu()[right]] = True
    return found


def fill_statistics(
    forward: Forward,
    batches: Iterable[tuple[str, int, Batch]],
    score: Callable,
    statistics: Sequence[PlaceStatistics],
    judged: Mapping[str, Tensor] | None,
) -> dict[str, Tensor]:
    """Task -> [prompt] bool, which prompts of a fit are answered rightly; a pass a batch of (task, prompts, batch).

    statistics: one for each capture of the batches, all of which are updated. judged: task -> [prompt], by which
    prompts count as answered rightly there, where it is not by their own answers.
    """
    right: dict[str, Tensor] = {}
    for task, count, batch in batches:
        result = forward(batch, {}, {"accuracy": score})
        own = all_right(batch, result["scores"]["accuracy"], count)
        start = len(right[task]) if task in right else 0
        right[task] = torch.cat([right[task], own]) if task in right else own
        decisive = own if judged is None else judged[task][start : start + count]
        for statistic, states in zip(statistics, result["states"], strict=True):
            stacked = torch.stack(states, 1).cpu()
            seen = ~stacked.isnan().all(-1).all(-1)  # a prompt without the position has no state
            statistic.update(task, stacked[seen], decisive[seen])
    return right


def taken_over(right: Mapping[str, Mapping[str, Tensor]], judge: tuple | None) -> dict[str, Tensor] | None:
    """As ``judged`` of a fit whose prompts count as right where those of another fit are; None where there is none.

    right: of each fit as ``fill_statistics`` gives it. judge: (id of the other fit, task -> rows of its prompts).
    """
    return {task: right[judge[0]][task][rows] for task, rows in judge[1].items()} if judge else None


def states_and_hits(forward: Forward, batch: Batch, prompts: int, shots: int, score: Callable) -> tuple[Tensor, Tensor]:
    """States [point, layer, shots, d_model] float32 and exact match [point, shots] bool of every number of shots of
    these prompts, on the CPU; the batch has one capture group and one answer for each of them."""
    result = forward(batch, {}, {"accuracy": score})
    states = torch.stack(result["states"][0], 1).cpu()  # [prompt x shots, layer, d_model]
    right = all_right(batch, result["scores"]["accuracy"], prompts * shots)
    return states.unflatten(0, (prompts, shots)).transpose(1, 2), right.view(prompts, shots)


def largest_moves(batch: Batch, moved: Iterable[Tensor]) -> Tensor:
    """[copy] how far its edits moved any state of any prompt (max abs), -1 for none; float64 on the CPU."""
    far = torch.full((batch.copies,), -1.0, dtype=torch.float64)
    for group, values in zip(batch.edits, moved, strict=True):
        copies = group.copies.cpu()
        own = copies >= 0  # others are of runs that only lend their states
        # a NaN is told by its outcomes
        far.scatter_reduce_(0, copies[own], values.double().cpu().nan_to_num(-1.0)[own], "amax")
    return far
