"""Titles of panels, however long a swept value is: folded, inside the figure, without a warning."""

from __future__ import annotations

import warnings

import polars as pl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from patchboard.report.drawing import MOST_LINES, fold
from patchboard.report.effect_figures import conversion_figures, effect_figures
from patchboard.report.run_files import read_run
from patchboard.report.style import styled
from patchboard.report.task_figures import task_figures
from tests.unit import synthetic_run

LONG = (
    '{"prefix":"Here is a list of inputs, each with its output under the task:\\n",'
    '"input":"The input is {input}, and","output":" {output}"}'
)


@pytest.fixture(scope="module", params=[1, 3], ids=lambda n: f"{n} settings")
def run(request, tmp_path_factory):
    """A run in which the template is swept as a whole."""
    table = synthetic_run.outcomes(queries=12).drop("prompts.shots")
    table = pl.concat(
        [table.with_columns(pl.lit(f"{i}{LONG}").alias("prompts.template")) for i in range(request.param)]
    )
    folder = tmp_path_factory.mktemp("long") / "run"
    return read_run(synthetic_run.write_run_folder(folder, table, synthetic_run.decodability(points=12)))


@pytest.mark.slow
def test_long_titles_stay_within_their_panels(run):
    with styled(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for drawing in (*effect_figures(run, "accuracy"), *task_figures(run), *conversion_figures(run)):
            canvas = FigureCanvasAgg(drawing.figure)
            canvas.draw()
            renderer = canvas.get_renderer()
            titles = [axes._left_title for axes in drawing.figure.axes if axes._left_title.get_text()]
            boxes = [title.get_window_extent(renderer) for title in titles]
            assert len(boxes) > 1
            for title, box in zip(titles, boxes, strict=True):
                assert 0 <= box.x0 and box.x1 <= drawing.figure.bbox.x1 + 1, title.get_text()
            assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
            for axes in drawing.figure.axes:
                assert axes.get_window_extent(renderer).height > 40


def test_a_title_is_folded_at_words_and_cut_behind_its_last_line():
    assert fold("positive, shots = 4", 2) == "positive, shots = 4"
    words = " ".join(f"word{i}" for i in range(60))
    lines = fold(words, 2).split("\n")
    assert len(lines) == MOST_LINES and lines[-1].endswith(" …")
    assert words.startswith(" ".join(lines).removesuffix(" …"))
    assert len(fold("x" * 500, 3).split("\n")) == MOST_LINES, "text without a space is folded too"
