"""Texts of the experiments' figures lie within their pages."""

from __future__ import annotations

import itertools

import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from patchboard.experiments.intervention_bars.figures import _matrices
from patchboard.experiments.scaling.figures import COUNT_NAMES, _sizes
from patchboard.report.style import styled


def outside(figure: Figure) -> list[str]:
    """Texts of which some is off the page, by half a letter at least."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    page, shown = figure.bbox.padded(4), [text for text in figure.findobj(Text) if text.get_text().strip()]
    boxes = {text.get_text(): text.get_window_extent(canvas.get_renderer()) for text in shown}
    assert len(boxes) > 5
    return [text for text, box in boxes.items() if not (page.x0 <= box.x0 and box.x1 <= page.x1)]


def test_titles_of_matrices():
    tasks = ("noun", "preposition")
    cells = itertools.product((0, 16), ("accuracy", "conversion"), (*tasks, "Null"), tasks)
    rows = [(*cell, 0.5) for cell in cells]
    table = pl.DataFrame(rows, schema=["shots", "measure", "source", "target", "mean"], orient="row")
    with styled():
        assert not outside(_matrices(table))


def test_names_of_models():
    names, measures = ("width32", "width64", "embedded-model"), (("cd", ""), ("accuracy", ""), ("added", "random"))
    rows = [
        (name, "", measure, control, 4, 0.5, 0.4, 0.6, 10.0**size, 9.0**size)
        for size, name in enumerate(names, 4)
        for measure, control in measures
    ]
    columns = ["model", "revision", "measure", "control", "shots", "value", "low", "high", *COUNT_NAMES]
    with styled():
        assert not outside(_sizes({"chance": 0.1, "metric": "accuracy"}, pl.DataFrame(rows, columns, orient="row")))
