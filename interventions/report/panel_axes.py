"""Axes of a panel that make no tick before one is drawn: half of what making matplotlib's own takes are four ticks that
most panels of a grid never show."""

from __future__ import annotations

from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis


class _Late:
    """An axis whose ticks are not made to be clipped: they are within it or beside it."""

    def set_clip_path(self, path: Any, transform: Any = None) -> None:
        Artist.set_clip_path(self, path, transform)  # type: ignore[arg-type]  # of an Axis


class _LateX(_Late, XAxis):
    pass


class _LateY(_Late, YAxis):
    pass


class PanelAxes(Axes):
    """As matplotlib's, to the pixel."""

    def _init_axis(self) -> None:  # what matplotlib's own kinds of axes override for their own kinds of axis
        self.xaxis, self.yaxis = _LateX(self, clear=False), _LateY(self, clear=False)
        for axis, sides in ((self.xaxis, ("bottom", "top")), (self.yaxis, ("left", "right"))):
            for side in sides:
                self.spines[side].register_axis(axis)

    def grid(self, visible: bool | None = None, *arguments: Any, **line: Any) -> None:
        if visible or visible is None or line:  # it is off before it is put on
            super().grid(visible, *arguments, **line)
