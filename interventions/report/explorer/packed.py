"""Data as they lie in a page: JSON whose long columns are arrays in one block of numbers, both deflated."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

Reference = dict[str, list[int]]
"""``{"$": [first, count]}``: so many numbers of the block, from that one on; with a third number that many times the
first one, for columns that say the same everywhere."""
_DROPPED = 7
"""Of 23 bits behind the first of a float32, those that `rounded` leaves out: 16 are right to 5 digits."""


class Packed:
    """Columns are added, and what refers to them is put into the JSON that ``text`` takes."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self._count = 0

    def numbers(self, values: ArrayLike) -> Reference:
        """Of any numbers, as float32; NaN where there is none."""
        array = np.asarray(values, dtype=np.float32).ravel()
        times = [len(array)] if len(array) > 1 and np.array_equal(array, array[:1].repeat(len(array)), True) else []
        kept = array[:1] if times else array
        self._parts.append(kept)
        self._count += len(kept)
        return {"$": [self._count - len(kept), len(kept), *times]}

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


Piece = tuple[Packed, dict[str, Any]]
"""A block of numbers and the JSON that refers to it."""


def rounded(values: ArrayLike) -> NDArray[np.float32]:
    """The nearest numbers of 17 bits, exponent apart: of noisy values a third of the bytes is spared.

    >>> rounded([0.0, 1.0, 65_535.0, 3.14159265]).tolist()
    [0.0, 1.0, 65535.0, 3.1415863037109375]
    """
    array = np.array(values, dtype=np.float32)
    bits = array.view(np.uint32)
    half = np.uint32((1 << (_DROPPED - 1)) - 1)
    nearest = bits + half + ((bits >> _DROPPED) & np.uint32(1)) & np.uint32(~((1 << _DROPPED) - 1) & 0xFFFF_FFFF)
    return np.where(np.isfinite(array), nearest.view(np.float32), array)


def _codes(values: Sequence[Any]) -> tuple[list[int], list[Any]]:
    places: dict[Any, int] = {}
    return [places.setdefault(value, len(places)) for value in values], list(places)


def _deflated(content: bytes) -> str:
    # the highest level takes ten times as long for 1 % less
    return base64.b64encode(zlib.compress(content, 6)).decode()
