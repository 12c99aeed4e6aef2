"""Vectors that are learned through the model: what is free in them, and the operand that it makes.

Learners hold parameters. An operand's tensors are made of these outside of the model, and gradients with respect to the
tensors come back from it (``engine.learning``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from patchboard.ops.base import SubspaceTensors
from patchboard.vectors.base import Operand, Recipe

_COOLEST = 0.1
"""Temperature at the end, in dimensions: a mask is then as good as 0 or 1 (Wu et al. 2023 end there too)."""


class Learner(nn.Module):
    """What is free in one vector."""

    def tensors(self, progress: float) -> tuple[Tensor, ...]:
        """The operand's tensors as ``operand_of`` takes them, with a graph. progress: share of the steps done."""
        raise NotImplementedError

    def finished(self) -> tuple[Tensor, ...]:
        """As ``tensors``, cut from the graph: what is kept of it."""
        raise NotImplementedError

    def penalty(self) -> Tensor:
        """What is added to its loss, in nats."""
        return torch.zeros(())

    def groups(self, rate: float) -> list[dict]:
        """Its parameters for an optimiser, with step lengths such that a step goes about ``rate`` far."""
        raise NotImplementedError

    @property
    def rank(self) -> int:
        """Dimensions of the subspace as it is now; 0 of a vector."""
        return 0


def operand_of(tensors: Sequence[Tensor]) -> Operand:
    """A vector of one tensor, a subspace of right [rank, d_model], left [d_model, rank] and center [d_model]."""
    return tensors[0] if len(tensors) == 1 else SubspaceTensors(tensors[1], tensors[0], tensors[2])


class _Columns(nn.Module):
    """Orthonormal columns, [d_model, rank]."""

    weight: Tensor

    def __init__(self, first: Tensor):
        super().__init__()
        self.weight = nn.Parameter(first)
        # Householder's form has d_model x rank numbers, where the exponential map has d_model squared
        orthogonal(self, "weight", "householder", use_trivialization=False)


class Rotation(Learner):
    """``rank`` orthonormal columns Q [d_model, rank], of which a swap's projection is Q Q^T.

    Source: distributed alignment search, Geiger et al. 2023, arXiv 2303.02536.
    """

    center: Tensor

    def __init__(self, first: Tensor, center: Tensor):
        """first [d_model, rank]: orthonormal columns. center [d_model]: of the subspace."""
        super().__init__()
        self.columns = _Columns(first)
        self.register_buffer("center", center)

    def tensors(self, progress: float) -> tuple[Tensor, ...]:
        q = self.columns.weight
        return q.T, q, self.center

    def finished(self) -> tuple[Tensor, ...]:
        q = self.columns.weight.detach()[:, : self.rank]
        return q.T.contiguous(), q.clone(), self.center  # of one column the two would else be one tensor

    def groups(self, rate: float) -> list[dict]:
        # Adam moves each number by about the same: all of a column's together turn it by sqrt(d_model) times that
        return [{"params": list(self.columns.parameters()), "lr": rate / math.sqrt(len(self.center))}]

    @property
    def most(self) -> int:
        """Columns of Q."""
        return self.columns.weight.shape[1]

    @property
    def rank(self) -> int:
        return self.most


class Boundless(Rotation):
    """A rotation that learns how many of its columns are needed: Q diag(m) Q^T, m_j = sigmoid((b - j - 1/2) / T) of
    column j = 0, 1, …, with b in [0, rank] learned and T falling from rank / 4 to 0.1. Each column costs a little:
    all of them together one nat. At the end the columns below b are kept, one at least.

    Source: boundless DAS, Wu et al. 2023, arXiv 2305.08809, with one boundary, the other being 0.
    """

    def __init__(self, first: Tensor, center: Tensor):
        super().__init__(first, center)
        self.share = nn.Parameter(torch.tensor(0.5, dtype=first.dtype))
        """b over rank; what a step leads out of [0, 1] is brought back before the next."""

    def tensors(self, progress: float) -> tuple[Tensor, ...]:
        right, q, center = super().tensors(progress)
        most = self.most
        self.share.data.clamp_(0, 1)
        warmest = max(most / 4, _COOLEST)
        temperature = warmest * (_COOLEST / warmest) ** progress
        column = torch.arange(most, device=q.device)
        mask = torch.sigmoid((most * self.share - column - 0.5) / temperature)
        return right, q * mask, center

    def penalty(self) -> Tensor:
        return self.share

    def groups(self, rate: float) -> list[dict]:
        return [*super().groups(rate), {"params": [self.share], "lr": rate}]

    @property
    def rank(self) -> int:
        return min(self.most, max(1, round(self.most * float(self.share.detach()))))


class Bounded(Learner):
    """v = bound * u / max(1, |u|), u [d_model] free: no longer than ``bound``."""

    def __init__(self, width: int, bound: float):
        super().__init__()
        self.u, self.bound = nn.Parameter(torch.zeros(width)), bound

    def tensors(self, progress: float) -> tuple[Tensor, ...]:
        return (self.bound * self.u / self.u.norm().clamp(min=1.0),)

    def finished(self) -> tuple[Tensor, ...]:
        return (self.tensors(1.0)[0].detach(),)

    def groups(self, rate: float) -> list[dict]:
        return [{"params": [self.u], "lr": rate / math.sqrt(len(self.u))}]


def rotation(recipe: Recipe, mean: Tensor, generator: torch.Generator) -> Rotation:
    """The learner of a das recipe, at a random rotation. mean [d_model]: of the fit states."""
    drawn = torch.randn(len(mean), recipe.rank, generator=generator, dtype=torch.float64)
    first, _ = torch.linalg.qr(drawn)
    kind = Boundless if dict(recipe.options)["boundless"] else Rotation
    return kind(first.float(), mean.float())


def bounded(recipe: Recipe, mean: Tensor, generator: torch.Generator) -> Bounded:
    """The learner of a steer recipe, at zero; as ``rotation``."""
    return Bounded(len(mean), float(dict(recipe.options)["norm"] * mean.norm()))
