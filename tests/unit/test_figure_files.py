"""Figures as files: formats, text, equal bytes, labels inside the figure, and the numbers beside each."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import polars as pl
import pytest
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from patchboard.errors import SpecError
from patchboard.report.drawing import Drawing, arranged, panels, single
from patchboard.report.figure_files import write_figures
from patchboard.report.formats import VECTOR, formats_of, lacking
from patchboard.report.page import drawings, write_report
from patchboard.report.run_files import read_run
from patchboard.report.style import WIDTH, styled
from tests.drawn_numbers import hold_against_its_numbers
from tests.unit import synthetic_run

pytestmark = pytest.mark.rasterised


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    outcomes = synthetic_run.outcomes(queries=12)
    return synthetic_run.write_run_folder(
        tmp_path_factory.mktemp("files") / "run", outcomes, synthetic_run.decodability(points=12)
    )


@pytest.fixture(scope="module")
def drawn(folder) -> list[Drawing]:
    with styled():
        return list(drawings(read_run(folder)))


def texts_of(drawing: Drawing) -> list[Text]:
    """All that are drawn."""
    FigureCanvasAgg(drawing.figure).draw()
    found = []
    stack = list(drawing.figure.get_children())
    while stack:
        artist = stack.pop()
        if not artist.get_visible():
            continue
        if isinstance(artist, Text) and artist.get_text():
            found.append(artist)
        # an axis has labels of ticks beyond its limits as well
        ticks = artist._update_ticks() if isinstance(artist, Axis) else None
        stack += artist.get_children() if ticks is None else [*ticks, artist.label, artist.offsetText]
    return found


def test_all_text_is_of_one_size_at_the_width_of_a_paper(drawn):
    with styled():
        for drawing in drawn:
            assert drawing.figure.get_figwidth() <= WIDTH == 6.75
            assert {text.get_fontsize() for text in texts_of(drawing)} == {8}, drawing.name


def test_no_label_leaves_its_figure_or_lies_on_another(drawn):
    """With margins of our own, which measure each label once."""
    with styled():
        for drawing in drawn:
            boxes = []
            for text in texts_of(drawing):
                box = text.get_window_extent()
                edge = drawing.figure.bbox
                assert box.x0 >= -1 and box.y0 >= -1, (drawing.name, text)
                assert box.x1 <= edge.x1 + 1 and box.y1 <= edge.y1 + 1, (drawing.name, text)
                boxes.append((text.get_text(), box.shrunk(0.9, 0.8)))
            for number, (one, box) in enumerate(boxes):
                for other, beside in boxes[:number]:
                    assert not box.overlaps(beside), (drawing.name, one, other)


def test_vector_files_are_text_and_the_same_in_every_draw(folder, drawn):
    with styled():
        (again,) = (each for each in drawings(read_run(folder)) if each.name == "cd")
        (cd,) = (each for each in drawn if each.name == "cd")
        svg, pdf = cd.vector("svg"), cd.vector("pdf")
        assert svg == again.vector("svg") and pdf == again.vector("pdf")
    assert b">layer</text>" in svg and b"<dc:date>" not in svg
    assert b"/FontType 3" not in pdf and b"/Type3" not in pdf and b"CreationDate" not in pdf
    assert b"/TrueType" in pdf or b"/CIDFontType2" in pdf


def test_files_that_are_asked_for_and_no_stale_ones(folder, tmp_path):
    with styled():
        figure, axes = single(1.5)
        axes.plot([0, 1], [1.5, 2.5])
    numbers = pl.DataFrame({"layer": [0, 1], "estimate": [1.5, 2.5]})
    drawing = Drawing("one", "One", "Caption.", figure, numbers)
    for name in ("old.png", "old.csv", "old.svg", "notes.txt"):
        (tmp_path / name).write_text("of an earlier report, or the user's")
    ((_, png),) = write_figures(tmp_path, [drawing], ("svg",))
    assert {path.name for path in tmp_path.iterdir()} == {"one.png", "one.csv", "one.svg", "notes.txt"}
    assert (tmp_path / "one.png").read_bytes() == png
    assert pl.read_csv(tmp_path / "one.csv").equals(numbers)
    write_figures(tmp_path, [drawing])
    assert (tmp_path / "one.svg").exists(), "it is of the same numbers"


def test_a_figure_is_refused_beside_other_numbers(drawn):
    """So every test that draws holds what it draws against the CSV (tests/conftest.py)."""
    for drawing in drawn:
        hold_against_its_numbers(drawing)
        name = next(each for each in ("estimate", "x") if each in drawing.data.columns)
        changed = drawing.data.with_columns(pl.col(name) + 0.001)
        with pytest.raises(AssertionError, match="which its table does not have"):
            hold_against_its_numbers(dataclasses.replace(drawing, data=changed))


def test_numbers_are_those_of_the_tables(folder, drawn):
    """By another way than the figure's: each row of the CSV is found in curves.parquet."""
    (effect,) = (each for each in drawn if each.name == "effect-logprob")
    own = effect.data.filter(pl.col("metric") == "logprob")
    curves = pl.read_parquet(folder / "curves.parquet").filter(pl.col("metric") == "logprob", pl.col("n") > 0)
    keys = ["intervention", "control", "layer", "shots"]
    both = own.join(curves, on=keys, how="full", coalesce=True)
    assert len(both) == len(own) == len(curves)
    for ours, theirs in {"estimate": "effect", "low": "ci_low", "high": "ci_high"}.items():
        assert both[ours].equals(both[theirs].alias(ours)), ours
    assert set(own["unit"]) == {"nats"} and set(own["setting"]) == {"shots = 0", "shots = 4"}
    assert {"CD", "chance of CD"} <= set(effect.data["metric"])


def test_formats_by_name():
    assert formats_of("svg,pdf", "--figures") == VECTOR == formats_of(["pdf", "SVG"], "figures")
    assert formats_of("png", "--figures") == formats_of("", "--figures") == ()
    with pytest.raises(SpecError, match=r"--figures: there is no format 'svgz', expected svg, pdf or png; did"):
        formats_of("svgz", "--figures")


@pytest.mark.slow
def test_formats_are_drawn_where_they_lack(folder):
    write_report(folder)
    assert not lacking(folder, ()) and lacking(folder, ("svg",))
    write_report(folder, ("svg",))
    assert not lacking(folder, ("svg",)) and lacking(folder, ("svg", "pdf"))


def test_an_intervention_is_a_column_where_that_fits():
    grid = [(name, f"{name}{shots}") for name in "abc" for shots in (0, 4)]
    assert arranged(grid, [0, 4]) == (["a0", "b0", "c0", "a4", "b4", "c4"], 3)
    many = [(name, f"{name}{shots}") for name in "abcde" for shots in (0, 4)]
    assert arranged(many, [0, 4]) == ([part for _, part in many], 2), "too many columns"
    uneven = [("a", "a0"), ("a", "a4"), ("b", "b0")]
    assert arranged(uneven, [0, 4]) == (["a0", "a4", "b0"], 2)
    assert arranged([("a", each) for each in range(6)], range(6)) == (list(range(6)), 4)
    assert arranged([(name, name) for name in "abcdef"], [{}]) == (list("abcdef"), 4)


def test_panels_have_ticks_at_the_edges_of_their_grid():
    with styled():
        figure, axes = panels(list("abcde"), 3, 1.5, share_y=True)
    assert [each.yaxis.get_visible() for each in axes] == [True, False, False, True, False]
    assert [each.xaxis.get_visible() for each in axes] == [False, False, True, True, True], "below c is nothing"
    axes[0].set_ylim(-3, 3)
    assert axes[4].get_ylim() == (-3, 3)
    FigureCanvasAgg(figure).draw()
    boxes = [each.get_position() for each in axes]
    assert len({round(box.width, 6) for box in boxes}) == len({round(box.height, 6) for box in boxes}) == 1
