"""Bitwise logic on two binary numbers: AND, NAND, OR, NOR, XOR, XNOR (arXiv 2412.12276, section 4).

An input is "01011 11001", its answer one number of as many bits. Null answers are random digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from patchboard.spec.section import Section
from patchboard.tasks.base import FAMILIES, NULL, Item

_MAX_POOL = 4096
"""Pairs listed at most; beyond 6 bits the pool is a seeded sample of all pairs."""

EMBEDDED_BITS = 4
"""Digits of the numbers that the embedded model's vocabulary holds."""

OPERATORS = {
    "AND": lambda a, b, mask: a & b,
    "NAND": lambda a, b, mask: ~(a & b) & mask,
    "OR": lambda a, b, mask: a | b,
    "NOR": lambda a, b, mask: ~(a | b) & mask,
    "XOR": lambda a, b, mask: a ^ b,
    "XNOR": lambda a, b, mask: ~(a ^ b) & mask,
}


@FAMILIES.register("bitwise")
class Bitwise:
    """Pairs of ``bits``-digit binary numbers under the six operators."""

    class Options(Section):
        bits: Annotated[int, Field(ge=1, le=16)] | None = Field(
            default=None, description=f"digits; default 5 as in the paper, {EMBEDDED_BITS} for the embedded model"
        )

    def __init__(self, bits: int = 5, tasks: Sequence[str] | None = None):
        self.bits = bits
        self.tasks = tuple(tasks or (*OPERATORS, NULL))

    @classmethod
    def task_names(cls, options: Options) -> tuple[str, ...]:
        return tuple(OPERATORS)

    @classmethod
    def build(cls, options: Options, tasks: tuple[str, ...], embedded: bool) -> Bitwise:
        return cls(options.bits or (EMBEDDED_BITS if embedded else 5), tasks)

    def data_files(self) -> Sequence[Path]:
        return ()

    def pool(self, seed: int) -> Sequence[Item]:
        size = 1 << self.bits
        rng = np.random.default_rng([seed, 0xB175])
        if size * size <= _MAX_POOL:
            pairs = [(a, b) for a in range(size) for b in range(size)]
        else:
            pairs = sorted({(int(a), int(b)) for a, b in rng.integers(0, size, size=(_MAX_POOL, 2))})
        return [self._item(a, b, int(rng.integers(size))) for a, b in pairs]

    def _item(self, a: int, b: int, chance: int) -> Item:
        mask = (1 << self.bits) - 1
        values = {name: f(a, b, mask) for name, f in OPERATORS.items()} | {NULL: chance}
        answers = {name: f"{values[name]:0{self.bits}b}" for name in self.tasks}
        return Item(f"{a:0{self.bits}b} {b:0{self.bits}b}", answers)

    def describe(self) -> dict[str, Any]:
        return {"family": "bitwise", "bits": self.bits}
