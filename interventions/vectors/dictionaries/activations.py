"""How active each feature of a dictionary is on the states of fit prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from patchboard.ops import FeatureTensors
from patchboard.vectors.dictionaries.named import ROWS


class Activations(NamedTuple):
    """Of one task's states: mean, share of states in which it is above 0, and largest activation [d_sae]; how many."""

    mean: Tensor
    rate: Tensor
    largest: Tensor
    states: int


def activations_of(every: FeatureTensors, states: Tensor) -> Activations:
    """every: all features of a dictionary, or some. states [prompt, d_model]. In float32, as an edit computes them."""
    total, active = torch.zeros(2, len(every.numbers), dtype=torch.float64)
    largest = torch.zeros(len(every.numbers))
    for rows in states.float().split(ROWS):
        f, _ = every.active(rows)
        total += f.double().sum(0)
        active += (f > 0).double().sum(0)
        largest = torch.maximum(largest, f.amax(0))
    return Activations(total / len(states), active / len(states), largest, len(states))


def mean_of(tasks: Sequence[Activations]) -> Tensor:
    """[d_sae] the mean over tasks of their means, as under ``difference``."""
    return torch.stack([task.mean for task in tasks]).mean(0)


def rate_of(tasks: Sequence[Activations]) -> Tensor:
    """[d_sae] the share of all their states."""
    states = torch.tensor([task.states for task in tasks], dtype=torch.float64)
    return (torch.stack([task.rate for task in tasks]) * states[:, None]).sum(0) / states.sum()
