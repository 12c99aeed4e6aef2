"""States of many prompts on disk while their neighbours are searched, one layer and number of shots at a time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

States = NDArray[np.float32]


class StateFile:
    """States [point, layer, shots, d_model] float32, added by point and read by layer and shots.

    The file has no name, so that nothing is left of it however the process ends.
    """

    def __init__(self, folder: Path):
        """folder: where there is room; made if needed."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)
        self._points: list[int] = []  # in each block of the file
        self.shape = (0, 0, 0)
        """(layers, shots, d_model)"""

    def __enter__(self) -> StateFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, states: States) -> None:
        """states: [point, layer, shots, d_model], the same layers and shots every time."""
        self.shape = states.shape[1:]
        self._points.append(len(states))
        self._file.write(np.ascontiguousarray(states.transpose(1, 2, 0, 3), dtype=np.float32).tobytes())

    def at(self, layer: int, shots: int) -> States:
        """[point, d_model], points in the order in which they were added."""
        layers, numbers, width = self.shape
        pieces, start = [], 0
        for points in self._points:
            slab = 4 * points * width
            self._file.seek(start + (layer * numbers + shots) * slab)
            pieces.append(np.frombuffer(self._file.read(slab), dtype=np.float32).reshape(points, width))
            start += layers * numbers * slab
        return np.concatenate(pieces)
