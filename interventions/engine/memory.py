"""How much memory a forward pass may take, and the signs that it took too much."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import psutil
import torch

from patchboard.plan.facts import ModelFacts
from patchboard.plan.pack_cost import activation_floats
from patchboard.plan.packs import Budget, default_budget

P = TypeVar("P")
_SHARE = 0.5
"""Of the free memory: allocators fragment, other processes grow."""


def free_bytes(devices: Sequence[torch.device]) -> int:
    """Bytes that can still be allocated on each of the devices: on the fullest of them."""
    if devices[0].type == "cuda":
        return min(torch.cuda.mem_get_info(device)[0] for device in devices)
    return psutil.virtual_memory().available


def budget_for(
    facts: ModelFacts, devices: Sequence[torch.device], bytes_each: int, begun: Budget | None = None,
    others: int = 0, weights: int = 0,
) -> Budget:  # fmt: skip
    """The default budget, halved until a pack's activations fit into half of the devices' free memory.

    bytes_each: of one number in the model's dtype; scores are computed in float32, so at least 4 are counted.
    begun: the budget that the run began with, kept while it fits into the free memory at all: packs of other sizes
    would round otherwise than those that are there. others: processes that take the same of the same memory, and as
    many bytes of weights, which they do not hold yet.
    """
    free = (free_bytes(devices) - others * weights) // (1 + others)

    def needed(budget: Budget) -> int:
        return activation_floats(facts, budget) * max(4, bytes_each)

    if begun is not None and needed(begun) <= free:
        return begun
    budget = default_budget(facts, on_cpu=devices[0].type == "cpu")
    while budget.tokens > 64 and needed(budget) > free * _SHARE:
        budget = budget.halved()
    return budget


def fits(work: Callable[[P], object], piece: P, release: Callable[[], None]) -> bool:
    """Do a piece of work; False where memory ran out. release: gives back what a device holds of it."""
    try:
        work(piece)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    else:
        return True
    gc.collect()  # only now, when the error no longer holds the frames and their tensors
    release()
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation failed; nnsight hands on errors of a trace under other classes."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or is_out_of_memory_text(str(error))


def is_out_of_memory_text(text: str) -> bool:
    signs = ("out of memory", "can't allocate memory", "not enough memory", "unable to allocate")
    return any(sign in text.lower() for sign in signs)
