"""Logits that were read, held against those computed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def must_equal(reads: Sequence[Any], logits: Tensor, expected: Sequence[Sequence[Tensor]], tolerance: float) -> None:
    """expected: [prompt][copy] -> [token, vocabulary], each of which is read once."""
    assert len(reads) == sum(len(one) for each in expected for one in each)
    for read, got in zip(reads, logits, strict=True):
        wanted = expected[read.prompt][read.copy][read.token]
        torch.testing.assert_close(
            got, wanted, atol=tolerance, rtol=tolerance, msg=lambda text, read=read: f"copy {read.copy}: {text}"
        )
