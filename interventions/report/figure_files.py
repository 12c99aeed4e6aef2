"""Figures as files: each as PNG, as the vector formats that are asked for, and its numbers as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from patchboard.report.drawing import Drawing
from patchboard.report.formats import VECTOR
from patchboard.report.style import styled
from patchboard.store.folder import atomically


def write_figures(
    folder: Path, drawings: Iterable[Drawing], formats: Sequence[str] = ()
) -> list[tuple[Drawing, bytes]]:
    """Write each drawing's files into ``folder``, and take away those of drawings that there no longer are.

    drawings: drawn while they are taken, in the report's style; those without a number (of a metric that has no value
    anywhere) are left out. formats: of formats.VECTOR. Returns each with its PNG.
    """
    shown = []
    with styled():
        for drawing in drawings:
            if not len(drawing.data):
                continue
            shown.append((drawing, write_figure(folder, drawing, formats)))
    names = {drawing.name for drawing, _ in shown}
    for ending in ("png", "csv", *VECTOR):
        for path in folder.glob(f"[!.]*.{ending}"):
            if path.stem not in names:  # of an earlier report: it would be taken for this run's
                path.unlink()
    return shown


def write_figure(folder: Path, drawing: Drawing, formats: Sequence[str] = ()) -> bytes:
    """The files of one, in the style that is current; returns its PNG."""
    png = drawing.png()
    _write(folder / f"{drawing.name}.png", png)
    for format in formats:
        _write(folder / f"{drawing.name}.{format}", drawing.vector(format))
    _write(folder / f"{drawing.name}.csv", drawing.data.write_csv().encode())
    return png


def _write(path: Path, content: bytes) -> None:
    atomically(path, lambda half: half.write_bytes(content))
