"""report.html of an experiment: one self-contained page in the look of a run's, figures beside it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from patchboard.store.folder import atomically

if TYPE_CHECKING:  # matplotlib takes seconds to load
    from patchboard.report.drawing import Drawing

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ page.title }}</title>
{{ style }}
</head>
<body>
{% macro drawn(drawing, uri) %}
<figure>
<div class="scroll"><img src="{{ uri }}" alt="{{ drawing.title }}"></div>
<figcaption><b>{{ drawing.title }}.</b> {{ drawing.caption }}
<span class="soft">(figures/{{ drawing.name }}.png)</span></figcaption>
</figure>
{% endmacro %}
<section class="lead" id="answer">
<h1>{{ page.title }}</h1>
{% for sentence in page.introduction[:1] %}
<p class="question">{{ sentence }}</p>
{% endfor %}
<div class="{{ "answer" if figures }}">
{% for drawing, uri in figures[:1] %}
{{ drawn(drawing, uri) }}
{% endfor %}
<div>
<h2 class="first">Findings</h2>
<ul>
{% for sentence in page.findings %}
<li>{{ sentence }}</li>
{% endfor %}
</ul>
{% if page.introduction | length > 1 %}
<details><summary>What was run</summary>
{% for sentence in page.introduction[1:] %}
<p>{{ sentence }}</p>
{% endfor %}
</details>
{% endif %}
</div>
</div>
</section>
{% for table in page.tables %}
<h2>{{ table.title }}</h2>
<div class="scroll">
<table>
<thead><tr>{% for head in table.heads %}<th>{{ head }}{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr>{% for cell in row %}<td>{{ cell }}{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endfor %}
{% if figures | length > 1 %}
<h2>Further figures</h2>
{% endif %}
{% for drawing, uri in figures[1:] %}
{{ drawn(drawing, uri) }}
{% endfor %}
<p class="soft">Beside each figure lie the numbers that it shows, as CSV.</p>
<h2>Settings</h2>
<details><summary>The resolved YAML</summary><pre>{{ page.settings }}</pre></details>
</body>
</html>
"""


@dataclass(frozen=True)
class Table:
    """A table as text."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Page:
    """What a page says and shows. settings: the resolved YAML. drawings: drawn while they are taken, under the report's
    look."""

    title: str
    introduction: Sequence[str]
    findings: Sequence[str]
    tables: Sequence[Table]
    settings: str
    drawings: Iterable[Drawing]


def write_page(folder: Path, page: Page, formats: Sequence[str] = ()) -> Path:
    """Write ``figures/*`` and ``report.html``, each put in place at once; returns the page.

    formats: of figures beside PNG, of report.formats.VECTOR.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from patchboard.report.figure_files import write_figures

    shown = [
        (drawing, "data:image/png;base64," + base64.b64encode(png).decode())
        for drawing, png in write_figures(folder / "figures", page.drawings, formats)
    ]
    # the look of a run's page, so that there is one
    other = files("patchboard.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    (style,) = re.findall(r"<style>.*?</style>", other, re.DOTALL)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(_TEMPLATE).render(page=page, figures=shown, style=Markup(style))
    place = folder / "report.html"
    atomically(place, lambda path: path.write_text(text, encoding="utf-8"))
    return place
