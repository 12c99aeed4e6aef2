"""A page's template filled with the numbers that are stored."""

from __future__ import annotations

from typing import Any

import jinja2

from pages import stored
from pages.formats import FILTERS
from pages.frame import Page, Project
from pages.pretrained import first_of, of_models


class Absent(jinja2.StrictUndefined):
    """A run or number that isn't stored: false in `{% if runs.NAME %}`, an error where it is to be written."""

    def __bool__(self) -> bool:
        return False


class Environment(jinja2.Environment):
    """Looks a name up among a dict's keys before its methods (`values`, `items`), and a number by its text: `cd[4]`."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        return obj[attribute] if isinstance(obj, dict) and attribute in obj else super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, dict) and isinstance(argument, int):
            argument = str(argument)
        return super().getitem(obj, argument)


def rendered(project: Project, page: Page) -> str:
    """The page's text. In the template are

    - ``runs.NAME``: the values stored of a run; ``made.NAME``: what they come from (command, seconds, date, …)
    - ``pages.PAGE.runs`` and ``.made``: the same of every page
    - ``of_models(runs, KEY)``: the runs of pretrained models, see `pages.pretrained`.

    Raises jinja2.TemplateError, of a number that isn't stored UndefinedError.
    """
    pages = {name: _of_entries(stored.read(project, name)) for name in project.names()}
    environment = Environment(
        loader=jinja2.FileSystemLoader(project.pages), undefined=Absent, autoescape=False, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters.update(FILTERS)
    environment.globals.update(FILTERS, of_models=of_models, first_of=first_of)  # `ends|interval(signed)` names one
    text = environment.get_template(f"{page.name}.md.j2").render(pages=pages, **pages[page.name])
    drawn_on = [page.name] if page.runs else list(pages)
    entries = [entry for name in drawn_on for entry in pages[name]["made"].values()]
    return f"{text.rstrip()}\n\n{last_line(entries)}\n"


def draws_on_others(project: Project, page: Page) -> bool:
    """Whether numbers of other pages stand in it, so that it is to be written anew when they are."""
    return "pages." in (project.pages / f"{page.name}.md.j2").read_text(encoding="utf-8")


def last_line(entries: list[dict[str, Any]]) -> str:
    """Who made a page, from numbers of which results versions, and when they were measured."""
    known = sorted({entry["results_version"] for entry in entries} - {None})
    versions = ", ".join(str(version) for version in known)
    if any(entry["results_version"] is None for entry in entries):
        versions = f"{versions}, unknown" if versions else "unknown"
    dates = sorted({entry["date"] for entry in entries})
    when = f", measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))}" if dates else ""
    return f"*Made by `python docs/make_results.py`. Results version: {versions or 'none'}{when}.*"


def _of_entries(entries: dict[str, Any]) -> dict[str, Any]:
    runs = {name: entry["values"] for name, entry in entries.items()}
    made = {name: {key: entry[key] for key in entry if key != "values"} for name, entry in entries.items()}
    return {"runs": runs, "made": made}
