"""``run.explore()`` as a notebook shows it: a kernel's own outputs, two in one page, in a real browser."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import patchboard as pb
from tests.browser.test_explorer import click_layer, rows_of
from tests.contract.tiny import run, tiny_tree

pytestmark = pytest.mark.slow

# what a notebook's theme does to everything in it, and names that its page has itself
STYLE = "body { background: %s; } table, td, select { display: none !important; } #explorer { color: red; }"


@pytest.fixture(scope="module")
def folder(llama_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("notebook") / "run"
    vector = {"mean": "same_task", "shots": 1, "prompts": 3}
    interventions = {
        "p": {"op": "patch", "vector": vector, "layers": "all"},
        "zeroed": {"op": "zero", "layers": "all"},
    }
    assert run(tiny_tree(llama_folder, interventions=interventions, metrics=["logprob", "accuracy"]), out) == 0
    return out


@pytest.fixture(scope="module")
def outputs(folder) -> list[str]:
    """HTML of the outputs of two cells, run by a kernel."""
    cells = [
        f"import patchboard as pb\nrun = pb.open({str(folder)!r})\nrun.explore(task='XOR', metric='accuracy', layer=2)",
        "run.explore(run, intervention='zeroed')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    found = [cell["outputs"][-1]["data"] for cell in notebook.cells]
    assert all(each["text/plain"].startswith("<explorer of run, 0.") for each in found)
    return [each["text/html"] for each in found]


def notebook_page(folder: Path, outputs: list[str], background: str = "white") -> Path:
    """The outputs are to work in a page of any charset, and its own name of theirs is not in their way."""
    file = folder / f"notebook-{background}.html"
    cells = "".join(f"<section><h2 id=explorer>Cell</h2>{output}</section>" for output in outputs)
    head = f"<!doctype html><meta charset=latin1><style>{STYLE % background}</style>"
    file.write_text(f"{head}<body>{cells}", encoding="utf-8")
    return file


def frames_of(page) -> list:
    for place in range(2):
        page.frame_locator("iframe").nth(place).locator("#explorer[data-ready=yes]").wait_for()
    return page.frames[1:]


def heights(page) -> list[float]:
    return page.evaluate("[...document.querySelectorAll('iframe')].map((each) => each.getBoundingClientRect().height)")


def test_two_outputs_are_there_and_apart(folder, outputs, tmp_path, open_any):
    page = open_any(notebook_page(tmp_path, outputs))
    first, second = frames_of(page)
    assert {row[0] for row in rows_of(first)} == {"XOR"}
    assert "p, layer 2, last, XOR: " in first.locator("#pinned").inner_text()
    assert first.locator("select[name=m]").input_value() == "accuracy"
    assert second.locator("select[name=i]").input_value() == "zeroed"
    assert "in run" in second.locator(".u-legend").inner_text()
    assert second.locator("#pinned").count() == 0
    click_layer(second, 1)
    assert len(rows_of(second)) == 9 and "layer 1" in second.locator("#pinned").inner_text()
    assert "layer 2" in first.locator("#pinned").inner_text()
    assert page.url.endswith(".html")  # what is chosen is no part of the notebook's address


def test_frames_are_as_high_as_what_is_in_them(outputs, tmp_path, open_any):
    page = open_any(notebook_page(tmp_path, outputs))
    _, second = frames_of(page)
    higher = "(before) => document.querySelectorAll('iframe')[1].getBoundingClientRect().height > before + 100"
    before = heights(page)[1]
    click_layer(second, 1)
    page.wait_for_function(higher, arg=before)
    for frame in page.frames[1:]:
        assert frame.evaluate("document.documentElement.scrollHeight <= innerHeight")


@pytest.mark.parametrize(("background", "system", "dark"), [("black", "light", True), ("white", "dark", False)])
def test_frames_are_as_dark_as_the_notebook(outputs, tmp_path, open_any, background, system, dark):
    page = open_any(notebook_page(tmp_path, outputs, background), color_scheme=system)
    for frame in frames_of(page):
        frame.wait_for_function(
            "(dark) => (parseInt(getComputedStyle(document.body).backgroundColor.slice(4)) < 128) === dark", arg=dark
        )


def test_without_the_notebooks_scripts_it_can_be_read(outputs, tmp_path, open_any):
    """A notebook that does not trust its outputs shows the frame, of one height."""
    page = open_any(notebook_page(tmp_path, [output.split("<script>(function")[0] for output in outputs]))
    frames_of(page)
    assert heights(page) == [620, 620]


def test_a_saved_explorer_is_a_page(folder, tmp_path, open_page):
    """Its address keeps what is chosen, over what it began with."""
    file = pb.open(folder).explore(intervention="zeroed", layer=1).save(tmp_path / "there" / "explorer.html")
    page = open_page(file)
    assert "zeroed, layer 1" in page.locator("#pinned").inner_text()
    page.select_option("select[name=t]", "OR")
    again = open_page(file, page.evaluate("location.hash"))
    assert {row[0] for row in rows_of(again)} == {"OR"}
    without = open_page(pb.open(folder).explore(layer=1, queries=False).save(tmp_path / "without.html"))
    assert without.locator("table.prompts").count() == 0
    assert (tmp_path / "without.html").stat().st_size < file.stat().st_size
