"""Colours of figures, by their lightness and distance as eyes with and without colour vision have them."""

import itertools

import numpy as np
import pytest

from patchboard.plan.controls import CONTROLS, Control
from patchboard.report.style import CYCLE, line_of

NORMAL = np.eye(3)
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
"""Machado, Oliveira & Fernandes 2009, severity 1, of linear RGB."""

TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def lab(colour: str, seen: np.ndarray = NORMAL) -> np.ndarray:
    """CIE L*, a*, b* of an sRGB colour, as an eye has it."""
    share = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    x = TO_XYZ @ np.clip(seen @ linear, 0, 1) / WHITE
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_lightness_is_that_of_the_standard():
    assert lab("#FFFFFF") == pytest.approx([100, 0, 0], abs=0.01)
    assert lab("#777777")[0] == pytest.approx(50.03, abs=0.02)
    assert lab("#FF0000") == pytest.approx([53.24, 80.09, 67.20], abs=0.05)


@pytest.mark.parametrize("seen", [NORMAL, DEUTERANOPIA, PROTANOPIA], ids=["all", "no green", "no red"])
def test_any_two_colours_are_told_apart(seen):
    """A distance of 2.3 is just seen side by side; thin lines apart from each other need several times that."""
    for one, other in itertools.combinations(CYCLE, 2):
        assert np.linalg.norm(lab(one, seen) - lab(other, seen)) > 12, (one, other)


def test_any_two_colours_differ_in_grey():
    lightness = sorted(lab(colour)[0] for colour in CYCLE)
    assert np.diff(lightness).min() > 5
    assert lightness[-1] < 80, "lighter ones are lost on white"


def test_lines_of_a_figure_differ_by_more_than_colour():
    """The intervention and all its controls, and a control of a plug-in."""
    lines = [line_of(name) for name in ("", *CONTROLS.names())]
    marks = [(line.dashes, line.marker) for line in lines]
    alike = [
        pair for pair in itertools.combinations(sorted(CONTROLS.names()), 2) if line_of(pair[0]) == line_of(pair[1])
    ]
    assert alike == [("random", "random_heads")], "these two are never of one intervention"
    assert len(set(marks)) == len(marks) - len(alike)
    assert (Control.line.dashes, Control.line.marker) not in marks
