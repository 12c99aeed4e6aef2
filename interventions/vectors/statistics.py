"""Running statistics of hidden states, one fit at a time, in float64.

These classes travel to a server by value, as source: plain ones, on torch and built-ins alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from patchboard.tasks.base import NULL


class RunningMeans:
    """Mean state of each task: ``update`` with batches, ``mean`` when all are in."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def update(self, task: str, states: Tensor) -> None:
        """states [prompt, layer, d_model] of prompts of one task."""
        total = states.double().sum(0).cpu()
        self.sums[task] = self.sums[task] + total if task in self.sums else total
        self.counts[task] = self.counts.get(task, 0) + states.shape[0]

    def mean(self, task: str) -> Tensor:
        """[layer, d_model], float64."""
        return self.sums[task] / self.counts[task]


class PlaceStatistics:
    """All that the recipes of one fit may ask of one place: means over correct and over all prompts,
    and for some the states themselves, which are far fewer numbers than covariances of d_model squared.

    layers: the block of each entry of the layer axis. labels: tasks in label order (for LEACE).
    keep_states: whether a recipe wants them.
    """

    def __init__(self, layers: Sequence[int], labels: Sequence[str], keep_states: bool):
        self.layers, self.labels, self.keep_states = tuple(layers), tuple(labels), keep_states
        self.all, self.correct = RunningMeans(), RunningMeans()
        self.states: list[tuple[str, Tensor, Tensor]] = []
        self.erasers: dict[tuple[int, str], Any] = {}
        self.activations: dict[tuple, Any] = {}
        """Of a dictionary's features in the states of a task."""

    def update(self, task: str, states: Tensor, correct: Tensor) -> None:
        """states [prompt, layer, d_model]; correct [prompt] bool (Null counts as correct throughout)."""
        keep = torch.ones_like(correct) if task == NULL else correct
        self.all.update(task, states)
        if keep.any():
            self.correct.update(task, states[keep])
        if self.keep_states:
            self.states.append((task, states.cpu(), keep.cpu()))

    def is_finite(self) -> bool:
        """Whether no state held a NaN or an infinite number."""
        return all(bool(total.isfinite().all()) for total in self.all.sums.values())

    def lacks_correct(self) -> list[str]:
        """Tasks of which not one prompt was answered correctly."""
        return [task for task in self.all.counts if not self.correct.counts.get(task)]

    def means(self, tasks: Sequence[str], layer: int, only: str) -> Tensor:
        """[task, d_model] at one block; a task without a correct prompt falls back to all of its prompts."""
        i = self.layers.index(layer)
        rows = []
        for task in tasks:
            source = self.correct if only == "correct" and self.correct.counts.get(task) else self.all
            rows.append(source.mean(task)[i])
        return torch.stack(rows)

    def states_of(self, tasks: Sequence[str], layer: int, only: str) -> Tensor:
        """[prompt, d_model] float64 at one block, of these tasks; they fall back as in ``means``. With kept states."""
        i, rows = self.layers.index(layer), []
        for task, states, keep in self.states:
            if task in tasks:
                right = only == "correct" and self.correct.counts.get(task)
                rows.append((states[keep, i] if right else states[:, i]).double())
        return torch.cat(rows)

    def labelled(self, layer: int, only: str) -> tuple[Tensor, Tensor]:
        """States [prompt, d_model] float64 at one block and labels [prompt]; tasks fall back as in ``means``."""
        i, rows, labels = self.layers.index(layer), [], []
        for task, states, keep in self.states:
            chosen = states[keep, i] if only == "correct" and self.correct.counts.get(task) else states[:, i]
            rows.append(chosen.double())
            labels += [self.labels.index(task)] * len(chosen)
        return torch.cat(rows), torch.tensor(labels)
