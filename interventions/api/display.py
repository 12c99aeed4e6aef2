"""How objects of the door show themselves: as text in a terminal, as a table in a notebook."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 150
"""Letters of a line: tables are not folded, as where the command line's output goes into a file."""
_CELL = "text-align:{};padding:2px 10px 2px 0;vertical-align:top;white-space:pre-wrap"


def as_text(write: Callable[[Console], object]) -> str:
    """What ``write`` prints on the console it is given, without colours."""
    from rich.console import Console

    stream = io.StringIO()
    write(Console(file=stream, width=_WIDTH, force_jupyter=False, force_terminal=False))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()).strip("\n")


def html_table(
    heads: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "", numbers: Sequence[int] = ()
) -> str:
    """A table that needs nothing but itself; every text is escaped.

    heads: titles of the columns; all empty: none are shown. numbers: columns that stand to the right.
    """
    sides = ["right" if i in numbers else "left" for i in range(len(heads))]

    def row(tag: str, cells: Sequence[object]) -> str:
        styled = (
            f'<{tag} style="{_CELL.format(side)}">{html.escape(str(cell))}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )
        return f"<tr>{''.join(styled)}</tr>"

    head = row("th", heads) if any(heads) else ""
    title = f"<caption style='text-align:left'>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{title}{head}{''.join(row('td', cells) for cells in rows)}</table>"


def html_text(lines: Iterable[str]) -> str:
    """Paragraphs, escaped."""
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines)
