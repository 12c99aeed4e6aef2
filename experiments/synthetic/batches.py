"""Training data, made on the device that trains: each step's batch is told by the seed and the step alone.

So a training that was stopped goes on with the batches that it would have had.
"""

from __future__ import annotations

import torch
from torch import Tensor

from patchboard.tasks.linear_regression import Mixture


class Batches:
    """Sequences of the mixture. mixture, size: of a batch; seed: of the training."""

    def __init__(self, mixture: Mixture, size: int, seed: int, device: torch.device):
        self.mixture, self.size, self.seed, self.device = mixture, size, seed, device
        self.bases = torch.from_numpy(mixture.bases()).to(device)
        self.nonzero = torch.from_numpy(mixture.drawn_nonzero()).to(device)
        self.sparse = any(task.kind == "sparse_linear" for task in mixture.tasks)

    def at(self, step: int, tasks: int) -> tuple[Tensor, Tensor]:
        """The step's batch of the first ``tasks`` tasks: tokens [sequence, 2 pairs, inputs + 1], y [sequence, pair]."""
        shape = self.size, self.mixture.pairs, self.mixture.inputs
        # of a seed, CPU generators take 32 bits; a multiple of an odd number keeps the steps of one training apart
        generator = torch.Generator(self.device).manual_seed((self.seed * 2_654_435_761 + step) % 2**32)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device=self.device)

        task = torch.randint(tasks, (self.size,), generator=generator, device=self.device)
        base = self.bases[task]
        weights = normal(self.size, shape[-1]) * base
        if self.sparse:
            place = torch.rand(base.shape, generator=generator, device=self.device)
            order = torch.where(base > 0, place, 2.0).argsort(-1).argsort(-1)
            weights = weights * (order < self.nonzero[task][:, None])
        x = normal(*shape)
        y = self.mixture.responses(x, weights, task) + self.mixture.noise * normal(*shape[:2])
        tokens = x.new_zeros(self.size, 2 * shape[1], shape[2] + 1)
        tokens[:, 0::2, :-1] = x
        tokens[:, 1::2, -1] = y
        return tokens, y
