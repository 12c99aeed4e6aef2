"""What a figure shows, read from matplotlib's artists, against the table that becomes the CSV beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from patchboard.report.drawing import Drawing

NAMED = {"estimate", "x"}
"""A figure's table has one of these: the number itself, or places in a plane."""


def hold_against_its_numbers(drawing: Drawing) -> None:
    """Every height, length and colour that is drawn is a number of the table; there is something drawn at all."""
    told = np.concatenate(
        [np.zeros(0), *(column.cast(float).to_numpy() for column in drawing.data if column.dtype.is_numeric())]
    )
    told = np.unique(told[np.isfinite(told)])
    assert NAMED & set(drawing.data.columns), f"{drawing.name}: {drawing.data.columns}"
    seen = np.concatenate([np.zeros(0), *shown(drawing)])
    seen = seen[np.isfinite(seen)]
    assert len(seen) or not len(told), f"{drawing.name} shows nothing of its table"
    if not len(seen):
        return
    assert len(told), f"{drawing.name} has no number beside it"
    near = np.searchsorted(told, seen).clip(1, max(1, len(told) - 1))
    off = np.minimum(np.abs(told[near - 1] - seen), np.abs(told[near.clip(max=len(told) - 1)] - seen))
    wrong = seen[off > 1e-9 * np.maximum(1, np.abs(seen))]
    assert not len(wrong), f"{drawing.name} shows {wrong[:5]}, which its table does not have"


def shown(drawing: Drawing) -> Iterator[np.ndarray]:
    """Heights of curves, bands, bars and points; colours of maps."""
    from matplotlib.collections import PathCollection, PolyCollection
    from matplotlib.lines import AxLine
    from matplotlib.patches import Polygon, Rectangle

    for axes in drawing.figure.axes:
        if axes.get_label() == "colour bar":
            continue
        for line in axes.lines:
            across, up = line.get_transform().contains_branch_seperately(axes.transData)
            upright = line.get_transform() == axes.get_xaxis_transform()  # of axvline
            if isinstance(line, AxLine) or not across or (not up and upright):
                continue
            yield np.ravel(np.asarray(line.get_ydata(), dtype=float))
        for image in axes.images:
            yield np.ma.filled(np.ma.masked_invalid(image.get_array()), np.nan).ravel()
        for patch in axes.patches:
            if isinstance(patch, Rectangle) and patch.get_fill():
                wide = axes.yaxis.get_inverted()  # bars from above to below
                yield np.array([patch.get_width() if wide else patch.get_height()])
            elif isinstance(patch, Polygon) and patch.get_fill():
                yield patch.get_xy()[:, 1]
        for collection in axes.collections:
            if isinstance(collection, PolyCollection):
                yield np.concatenate([np.zeros(0), *(path.vertices[:, 1] for path in collection.get_paths())])
            elif isinstance(collection, PathCollection) and not axes.images:  # dots on a map stand at places
                yield np.asarray(np.ma.filled(collection.get_offsets(), np.nan))[:, 1]
