"""The explorer of a run as a page of its own, and as a frame in a notebook's output."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from patchboard.report.explorer import asset, explorer_block
from patchboard.report.page import template
from patchboard.report.run_files import Run

_HEIGHT = 620
"""Pixels of a frame where the notebook runs no scripts, which would make it as high as what is in it."""


def explorer_page(run: Run, others: Sequence[Run], start: Mapping[str, Any], queries: bool) -> str | None:
    """An HTML page that needs nothing but itself; None where the run has no intervention. See ``explorer_block``."""
    explorer = explorer_block(run, others, framed=True, start=start, queries=queries)
    if explorer is None:
        return None
    names = [other.folder.resolve().name for other in others]
    return template("explorer.html.j2").render(run=run, explorer=explorer, others=names)


def framed(page: str, title: str) -> str:
    """The page in a frame that the notebook's styles and scripts do not reach, nor it theirs, with a script that makes
    the frame as high as the page. Each call is a frame of its own."""
    name = f"patchboard-{uuid4().hex[:12]}"
    # a page of any encoding may hold it: the policy allows scripts by their digest, letter for letter
    source = html.escape(page).encode("ascii", "xmlcharrefreplace").decode()
    around = asset("around_frame.js").replace("FRAME", json.dumps(name))
    return (
        f'<iframe id="{name}" title="{html.escape(title)}" sandbox="allow-scripts" srcdoc="{source}" '
        f'style="display:block;width:100%;height:{_HEIGHT}px;border:0"></iframe>\n<script>{around}</script>'
    )
