"""The page of all runs as text: its rows as data, and the script that shows, sorts and filters them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from patchboard.report.explorer.block import Explorer, policy_of
from patchboard.view.site import Shown


def rows_text(shown: Sequence[Shown]) -> str:
    """The rows as JSON."""
    return json.dumps([each.as_json() for each in shown])


def index_page(root: Path, shown: Sequence[Shown], live: bool) -> tuple[str, str]:
    """The page, and the policy that it is under.

    live: it asks its server for the rows again and again, and names the folder by its whole path; else it is as of now.
    """
    script = asset("index.js")
    ask = "; connect-src 'self'" if live else ""
    policy = policy_of([script]) + ask
    told = {"live": live, "made": int(time.time()), "rows": [each.as_json() for each in shown]}
    text = filled(
        "index.html.j2",
        policy=policy,
        title=f"Runs in {root if live else root.name}",
        data=_in_script(told),
        script=script,
        reports=[each for each in shown if "report.html" in each.files],
    )
    return text, policy


def comparison_page(explorer: Explorer, addresses: Sequence[str]) -> str:
    """A page that lays the runs that its address names over each other; it has the curves of all, and no queries.

    explorer: of these runs, in the order of their addresses.
    """
    scripts = [asset("compare.js"), *explorer.scripts]
    return filled(
        "compare.html.j2",
        policy=policy_of(scripts),
        style=explorer.style,
        runs=list(zip(addresses, explorer.data, strict=True)),
        scripts=scripts,
    )


def filled(template: str, **values: Any) -> str:
    """A template of this folder; the look is that of all its pages. Names that are no text are shown as such."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(asset(template)).render(look=asset("look.css"), **values)
    return text.encode(errors="replace").decode()


def asset(name: str) -> str:
    return files("patchboard.view").joinpath(name).read_text(encoding="utf-8")


def _in_script(tree: Any) -> str:
    """JSON that no text in it can end the script with."""
    return json.dumps(tree).replace("<", "\\u003c")
