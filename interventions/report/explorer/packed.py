"""Data as they lie in a page: JSON whose long columns are arrays in one block of numbers, both deflated."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

Reference = dict[str, list[int]]
"""``{"$": [first, count]}``: so many numbers of the block, from that one on."""


class Packed:
    """Columns are added, and what refers to them is put into the JSON that ``text`` takes."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self._count = 0

    def numbers(self, values: ArrayLike) -> Reference:
        """Of any numbers, as float32; NaN where there is none."""
        array = np.asarray(values, dtype=np.float32).ravel()
        self._parts.append(array)
        self._count += len(array)
        return {"$": [self._count - len(array), len(array)]}

    def words(self, column: pl.Series) -> dict[str, Any]:
        """Of text or of few different values: the different ones, and each row's place among them."""
        codes, names = _codes(column.to_list())
        return {"names": names, "codes": self.numbers(codes)}

    def text(self, tree: Any) -> tuple[str, str]:
        """(JSON, numbers), each deflated and in base64: characters that a page can hold anywhere."""
        block = np.concatenate([np.zeros(0, dtype=np.float32), *self._parts]).astype("<f4")
        # a byte's place apart: numbers of one column share their first bytes, which then lie together
        planes = block.view(np.uint8).reshape(-1, 4).T.copy()
        return _deflated(json.dumps(tree, separators=(",", ":")).encode()), _deflated(planes.tobytes())


def _codes(values: Sequence[Any]) -> tuple[list[int], list[Any]]:
    places: dict[Any, int] = {}
    return [places.setdefault(value, len(places)) for value in values], list(places)


def _deflated(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()
