"""`patchboard view` in a real browser: sorted, filtered, opened, compared, live; and its bundle from disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from patchboard.store.progress import told_in
from patchboard.view.bundle import write_bundle
from tests.view.conftest import Served, change_json, finished, planted, served, unfinished

__all__ = ["finished", "planted", "served", "unfinished"]

pytestmark = pytest.mark.slow

MARKUP = '<img src=x onerror="alert(1)"> & <b>bold</b>'


@pytest.fixture
def runs(finished, unfinished, tmp_path) -> Path:
    """A run of each kind in the folder that ``served`` serves. The planted effects are scaled, so that they differ."""
    root = tmp_path / "runs"
    for name, scale in (("big", 1.0), ("small", 0.5), ("sweep/point", 0.75)):
        folder = finished(root / name, name=f"spec of {name}", digest=name[0] * 64)
        summary = json.loads((folder / "summary.json").read_text())
        for entry in summary["interventions"].values():
            for point in entry["points"]:
                for field in ("effect", "ci_low", "ci_high"):
                    point[field] *= scale
        change_json(folder / "summary.json", **summary)
    change_json(root / "small" / "manifest.json", name=MARKUP)
    unfinished(root / "left", KeyboardInterrupt())
    (root / "damaged").mkdir()
    (root / "damaged" / "manifest.json").write_text("{")
    return root


@pytest.fixture
def view(open_watched) -> Any:
    """(address, width, scheme) -> the page, ready, which asks for nothing elsewhere."""

    def opened(address: str, width: int = 1280, scheme: str = "light") -> Any:
        home = address.split("#")[0].rsplit("/", 1)[0]
        page = open_watched(address, lambda url: url.startswith((home, "data:")), width, color_scheme=scheme)
        page.wait_for_selector("#runs[data-ready=yes]")
        return page

    return opened


def folders(page: Any) -> list[str]:
    """The runs' folders in order; of a row without a name that is all it has."""
    rows = page.locator("#runs > tbody > tr:not(.more)").all()
    texts = [(row.locator("td").first.inner_text().split("\n"), row.locator(".open").count()) for row in rows]
    return [lines[-2 if button else -1] for lines, button in texts]


def sort(page: Any, key: str) -> None:
    page.locator(f'[data-key="sort {key}"]').click()


def test_sorted_by_any_column_what_is_unknown_last(served: Served, runs, view):
    page = view(served.server.address)
    assert folders(page)[-1] == "damaged" and len(folders(page)) == 5
    sort(page, "effect")
    assert folders(page) == ["big", "sweep/point", "small", "left", "damaged"]
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    sort(page, "effect")
    assert folders(page) == ["small", "sweep/point", "big", "left", "damaged"]
    sort(page, "status")
    assert folders(page)[-2:] == ["left", "damaged"]
    page.locator('[data-key="sort run"]').press("Enter")
    assert folders(page)[0] == "small"  # "<img …" comes before letters
    assert page.evaluate("document.activeElement.dataset.key") == "sort run"  # drawn again, the focus stays


def test_filters_and_the_address(served, runs, view):
    page = view(served.server.address)
    page.locator("input[name=q]").fill("SPEC big")
    assert folders(page) == ["big"] and page.locator("#count").inner_text() == "1 of 5 rows."
    page.locator("input[name=q]").fill("")
    page.select_option("select[name=status]", "finished")
    page.select_option("select[name=in]", "sweep")
    sort(page, "effect")
    assert folders(page) == ["sweep/point"]
    again = view(page.url)
    assert folders(again) == ["sweep/point"] and again.locator("select[name=in]").input_value() == "sweep"
    again.select_option("select[name=in]", "")
    assert folders(again) == ["big", "sweep/point", "small"]
    again.evaluate("location.hash = 'q=left'")
    again.wait_for_function("document.getElementById('count').textContent.startsWith('1 of')")
    assert folders(again) == ["left"] and again.locator("input[name=q]").input_value() == "left"


def test_an_open_row_has_all_effects_and_files(served, runs, view):
    page = view(served.server.address)
    page.locator('[data-key="open runs/big"]').click()
    inside = page.locator("tr.more")
    summary = json.loads((runs / "big" / "summary.json").read_text())
    assert inside.locator("table tr").count() == 1 + sum(len(e["points"]) for e in summary["interventions"].values())
    with page.expect_download() as download:
        inside.get_by_role("link", name="effects.parquet").click()
    assert Path(download.value.path()).read_bytes() == (runs / "big" / "effects.parquet").read_bytes()
    page.locator('[data-key="open runs/big"]').click()
    assert inside.count() == 0


def test_two_are_compared_and_reports_open(served, runs, view):
    page = view(served.server.address)
    page.get_by_label("compare big").check()
    assert "choose another" in page.locator("#chosen").inner_text()
    page.get_by_label("compare sweep/point").check()
    page.get_by_role("link", name="compare 2 runs").click()
    page.wait_for_selector("#explorer[data-ready=yes]")
    assert "in point" in page.locator(".u-legend").inner_text()
    page.locator("#explorer .figure").press("ArrowRight")  # the address of a page apart can be written all the same
    page.wait_for_selector("#pinned")
    page.go_back()
    assert page.get_by_label("compare big").is_checked()
    page.get_by_role("link", name="spec of big").click()
    page.wait_for_selector("#explorer[data-ready=yes]")


def test_a_run_s_page_cannot_read_the_others(served, runs, view):
    """A folder may come from anywhere, and its page with it."""
    script = "fetch('../small/summary.json').then(() => document.title = 'read', () => document.title = 'refused')"
    (runs / "big" / "report.html").write_text(f"<!doctype html><title>-</title><script>{script}</script></html>")
    page = view(served.server.address)
    other = page.context.new_page()
    other.goto(served.server.address + "runs/big/report.html")
    other.wait_for_function("document.title != '-'")
    assert other.title() == "refused"


def test_rows_follow_the_folder(served, runs, view, finished, tmp_path):
    page = view(served.server.address)
    page.get_by_label("compare big").check()
    folder = runs / "left"
    with told_in(folder) as tick:
        tick("packs", 17, 50)
        page.wait_for_selector("#runs progress")
        row = page.locator("tr.running")
        assert "packs 34 %" in row.inner_text() and page.get_by_label("compare big").is_checked()
        page.locator('[data-key="open runs/left"]').click()
        assert "No report yet" in page.locator("tr.more").inner_text()
    shutil.rmtree(folder)
    finished(tmp_path / "made").rename(folder)
    page.wait_for_selector("#runs progress", state="detached")
    assert page.get_by_label("compare left").is_visible()


def test_what_runs_are_called_is_never_markup(served, runs, view):
    page = view(served.server.address)
    assert page.get_by_role("link", name=MARKUP, exact=True).is_visible()
    assert page.locator("#runs img, #runs b:has-text('bold')").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 900, 390])
def test_nothing_is_cut_off(served, runs, view, width, scheme):
    page = view(served.server.address + "#c=runs%2Fbig", width, scheme)
    page.locator('[data-key="open runs/big"]').click()
    fits = "[...document.querySelectorAll('html, body > .scroll')].every((e) => e.scrollWidth <= e.clientWidth)"
    assert page.evaluate(fits)
    assert page.locator("select[name=sort]").is_visible() == (width == 390)


def test_a_bundle_opens_from_disk(runs, view, tmp_path):
    write_bundle(runs, tmp_path / "site")
    page = view((tmp_path / "site" / "index.html").as_uri())
    assert len(folders(page)) == 5 and "As of" in page.locator("#said").inner_text()
    for name in ("sweep/point", "big"):
        page.get_by_label(f"compare {name}").check()
    page.get_by_role("link", name="compare 2 runs").click()
    page.wait_for_selector("#explorer[data-ready=yes]")
    legend = page.locator(".u-legend").inner_text()
    assert "in big" in legend and "in small" not in legend and "in point" not in legend
    page.locator("#explorer .figure").press("ArrowRight")
    assert "No single queries" in page.locator("#explorer .behind").inner_text()
    page.get_by_role("link", name="sweep/point").click()
    page.wait_for_selector("#explorer[data-ready=yes]")
    page.locator("#explorer .figure").press("ArrowRight")
    page.wait_for_selector("#explorer .behind:not([aria-busy])")
    assert page.locator("table.prompts tr").count() > 1
