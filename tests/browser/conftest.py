"""A headless Chromium, where one is at hand, and pages that tell of every request, message and error."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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


@pytest.fixture
def open_watched(browser) -> Iterator[Any]:
    """(address, which addresses it may ask for, width, how=…) -> the page. At the end none has said anything or asked
    for any other. how: options of a browser's page, ``color_scheme="dark"``, say."""
    said: list[str] = []
    with ExitStack() as stack:

        def opened(address: str, may_ask: Callable[[str], bool], width: int, **how: Any) -> Any:
            context = browser.new_context(viewport={"width": width, "height": 900}, **how)
            stack.callback(context.close)
            page = context.new_page()
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("dialog", lambda dialog: said.append(dialog.message))
            page.on("request", lambda request: may_ask(request.url) or said.append(f"asked for {request.url}"))
            page.goto(address)
            return page

        yield opened
    assert not said


@pytest.fixture
def open_any(open_watched) -> Any:
    """(file, address behind "#", width, how=…) -> the page, which asks for nothing but itself."""

    def opened(file: Path, address: str = "", width: int = 1200, **how: Any) -> Any:
        is_page = re.compile(r"file:.*\.html").match
        return open_watched(file.as_uri() + address, lambda url: bool(is_page(url)), width, **how)

    return opened


@pytest.fixture
def open_page(open_any) -> Any:
    """As ``open_any``, the page's explorer ready."""

    def opened(file: Path, address: str = "", width: int = 1200) -> Any:
        page = open_any(file, address, width)
        page.wait_for_selector("#explorer[data-ready=yes]")
        return page

    return opened
