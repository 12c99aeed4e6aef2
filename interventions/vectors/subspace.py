"""Concept subspaces: the directions in which the tasks' states differ, found by PCA or LEACE."""

from __future__ import annotations

import torch
from concept_erasure import LeaceFitter
from torch import Tensor

from interventions.ops.base import SubspaceTensors


def pca_subspace(means: Tensor, rank: int) -> SubspaceTensors:
    """The ``rank`` leading principal directions of task means [task, d_model], about their mean.

    Projection is orthogonal: left = right.T. At rank = tasks - 1 all means coincide after ablation.
    """
    center = means.mean(0)
    _, _, directions = torch.linalg.svd(means - center, full_matrices=False)
    right = directions[:rank].contiguous()
    return SubspaceTensors(left=right.T.contiguous(), right=right, center=center)


def leace_fitters(width: int, layers: int, labels: int) -> list[LeaceFitter]:
    """One fitter a layer, of states [d_model = width] and that many labels."""
    return [LeaceFitter(width, labels, dtype=torch.float64) for _ in range(layers)]


def leace_subspace(fitter: LeaceFitter, rank: int) -> SubspaceTensors:
    """LEACE's oblique projection, its ``rank`` strongest directions (all of them erase the labels linearly).

    Source: Belrose et al. 2023, arXiv 2306.03819; through the concept-erasure package.
    """
    eraser = fitter.eraser
    assert eraser.bias is not None
    return SubspaceTensors(
        left=eraser.proj_left[:, :rank].contiguous(),
        right=eraser.proj_right[:rank].contiguous(),
        center=eraser.bias,
    )


def random_subspace(like: SubspaceTensors, generator: torch.Generator) -> SubspaceTensors:
    """An orthonormal basis of as many random directions, about the same centre."""
    width, rank = like.left.shape
    drawn = torch.randn(width, rank, generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(drawn)
    right = basis.T.contiguous()
    return SubspaceTensors(left=basis.contiguous(), right=right, center=like.center)
