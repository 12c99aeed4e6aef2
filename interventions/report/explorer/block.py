"""The explorer as a part of a page: its data, a plotting library and scripts, all inside; nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from patchboard.report.explorer.data import explorer_data
from patchboard.report.run_files import Run

_SCRIPTS = ("vendor/uPlot.iife.min.js", "explorer.js")
_NOTICE = "/*! uPlot 1.6.32, MIT License, Copyright (c) 2022 Leon Sorokin */\n"
"""In place of the library's first line, whose address would read as if the page asked for something."""
_STYLES = ("vendor/uPlot.min.css", "explorer.css")


@dataclass(frozen=True)
class Explorer:
    """What the page's template puts in: styles, the data of each run, scripts, and the policy that lets these alone
    run."""

    style: str
    data: tuple[str, ...]
    scripts: tuple[str, ...]
    policy: str
    start: str
    """JSON: choices that it begins with, by their short names in the page's address (``i``, ``m``, ``t``, ``l``)."""


def explorer_block(
    run: Run,
    others: Sequence[Run] = (),
    *,
    framed: bool = False,
    start: Mapping[str, Any] | None = None,
    queries: bool = True,
) -> Explorer | None:
    """The explorer of a run, perhaps with the curves of others laid over its own; None where it has no intervention.

    framed: with the script for a notebook's frame. queries: with single queries, which are most of the data.
    """
    if run.curves.is_empty():
        return None
    data = []
    for each in (run, *others):
        pieces = explorer_data(each, with_queries=queries and each is run)
        data.append(" ".join(text for packed, tree in pieces for text in packed.text(tree)))
    scripts = (_NOTICE + asset(_SCRIPTS[0]).split("\n", 1)[1], asset(_SCRIPTS[1]))
    scripts += (asset("frame.js"),) if framed else ()
    told = json.dumps(start or {}, ensure_ascii=False)
    return Explorer("\n".join(map(asset, _STYLES)), tuple(data), scripts, policy_of(scripts), told)


def policy_of(scripts: Sequence[str]) -> str:
    """A content security policy: these scripts, styles of the page, images inside it, and no request at all."""
    hashes = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts)
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    script = f"script-src {allowed}; " if allowed else ""
    return f"default-src 'none'; {script}style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def asset(name: str) -> str:
    """A file of this folder, as text."""
    return files("patchboard.report.explorer").joinpath(name).read_text(encoding="utf-8")
