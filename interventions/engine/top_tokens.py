"""The likeliest next tokens of next-token distributions, and the answer's place among all. Travels to a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from patchboard.engine.scores import rows_of

if TYPE_CHECKING:
    from patchboard.engine.batch import Batch

_AT_ONCE = 1 << 24
"""Logits (read x vocab) that are looked through together: a few masks of that size are made."""


def top_tokens(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """logits [place, vocab] -> of the reads that ``batch.top`` names, in their order: ``ids`` and ``logprobs`` [read,
    token], the likeliest first; ``answer`` [read] the log-probability of the answer's token, ``rank`` [read] how many
    tokens are likelier than it, plus one."""
    assert batch.top is not None and batch.reads is not None and batch.targets is not None and batch.queries is not None
    queries = batch.queries[batch.top.prompts]
    reads = batch.top.reads[queries % batch.top.every == 0]
    parts: dict[str, list[Tensor]] = {"ids": [], "logprobs": [], "answer": [], "rank": []}
    for piece in reads.split(max(1, _AT_ONCE // logits.shape[-1])):  # an empty piece, where there are no reads
        rows = rows_of(logits, batch.reads[piece].to(logits.device))
        target = rows.gather(-1, batch.targets[piece].to(logits.device)[:, None])
        ids, values = largest(rows, batch.top.count)
        whole = rows.logsumexp(-1, keepdim=True)
        parts["ids"].append(ids)
        parts["logprobs"].append(values - whole)
        parts["answer"].append((target - whole)[:, 0])
        parts["rank"].append(1 + (rows > target).sum(-1))
    return {name: torch.cat(each) for name, each in parts.items()}


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(index, value) [row, count] of each row's largest values, in falling order; of equal ones the lower index comes
    first, on every device. NaN counts as the smallest value."""
    found, index = values.topk(min(count + 1, values.shape[-1]))
    unsure = found[:, 0].isnan()  # topk takes NaN for the largest
    if found.shape[-1] > count:  # and, of values that are equal to the least one, any
        unsure = unsure | (found[:, count - 1] == found[:, count])
    index = index[:, :count]
    if bool(unsure.any()):
        index[unsure] = lowest_of_equals(values[unsure], count)
    index = index.sort(-1).values
    taken = without_nan(values.gather(-1, index))
    taken, order = taken.sort(dim=-1, descending=True, stable=True)
    return index.gather(-1, order), taken


def lowest_of_equals(values: Tensor, count: int) -> Tensor:
    """[row, count] indices of the largest values, of those equal to the least of them the first."""
    values = without_nan(values)
    least = values.topk(count).values[:, -1:]
    above, equal = values > least, values == least
    lacking = count - above.sum(-1, keepdim=True)
    taken = above | (equal & (equal.cumsum(-1, dtype=torch.int32) <= lacking))
    return taken.nonzero()[:, 1].view(len(values), count)


def without_nan(values: Tensor) -> Tensor:
    return values.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
