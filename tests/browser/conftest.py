"""A headless Chromium, where one is at hand, and pages that tell of every request, message and error."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip(f"no browser is at hand ({', '.join(_NAMES)})")
    with api.sync_playwright() as tool:
        opened = tool.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@dataclass
class Opened:
    """A page, and what it said and asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def open_any(browser) -> Iterator[Any]:
    """(file, address behind "#", width, how=…) -> the page. At the end none has said anything or asked for anything
    but itself. how: options of a browser's page, ``color_scheme="dark"``, say."""
    pages: list[Opened] = []

    def opened(file: Path, address: str = "", width: int = 1200, **how: Any) -> Any:
        one = Opened(browser.new_page(viewport={"width": width, "height": 900}, **how))
        one.page.on("console", lambda message: one.said.append(message.text))
        one.page.on("pageerror", lambda error: one.said.append(str(error)))
        one.page.on("dialog", lambda dialog: one.said.append(dialog.message))
        one.page.on("request", lambda request: one.asked.append(request.url))
        pages.append(one)
        one.page.goto(file.as_uri() + address)
        return one.page

    yield opened
    for one in pages:
        one.page.close()
        assert not one.said
        assert all(url.startswith("file:") and ".html" in url for url in one.asked), one.asked


@pytest.fixture
def open_page(open_any) -> Any:
    """As ``open_any``, the page's explorer ready."""

    def opened(file: Path, address: str = "", width: int = 1200) -> Any:
        page = open_any(file, address, width)
        page.wait_for_selector("#explorer[data-ready=yes]")
        return page

    return opened
