"""The answer in one screen, in a real browser: the question, the figure and the sentences, without scrolling."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchboard.report.page import write_report
from tests.unit import synthetic_run

pytestmark = [pytest.mark.slow, pytest.mark.rasterised]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    tables = synthetic_run.outcomes(queries=20), synthetic_run.decodability(points=12)
    return write_report(synthetic_run.write_run_folder(tmp_path_factory.mktemp("screen") / "run", *tables))


def test_a_desk_shows_the_answer_at_once(page, browser):
    opened = browser.new_page(viewport={"width": 1280, "height": 800})
    opened.goto(page.as_uri())
    figure, sentences = opened.locator("#answer img"), opened.locator("#answer .answer > div > ul > li")
    assert figure.bounding_box()["width"] > 600, "8 points are as large as they are in print, or larger"
    assert sentences.count() == 5  # an intervention each, and CD
    for shown in (opened.locator(".question"), figure, sentences.first, sentences.last):
        box = shown.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 800, shown
    opened.close()


@pytest.mark.parametrize("width", [1280, 900, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_makes_the_page_wider_than_the_screen(page, browser, width, scheme):
    opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    opened.goto(page.as_uri())
    for folded in opened.locator("details").all():
        folded.evaluate("box => { box.open = true; }")
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    inverted = opened.locator("#answer img").evaluate("image => getComputedStyle(image).filter")
    assert inverted.startswith("invert") == (scheme == "dark")
    opened.close()
