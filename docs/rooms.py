"""The rooms of the package, in the order that docs/architecture.md gives them, and who imports whom.

    python docs/rooms.py    draws docs/figures/rooms.svg

tests/unit/test_structure.py holds the order and the picture.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PICTURE = ROOT / "docs" / "figures" / "rooms.svg"
FOLDERS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
"""Package -> folder of the repository."""

_TOP = ("patchboard", "__main__")
"""The package's own file, and `python -m patchboard`: no rooms."""

_ROW, _HEIGHT, _GAP, _LETTER = 62, 26, 26, 7.6
"""Pixels: from row to row, of a box, between boxes, of a letter."""


def order() -> list[tuple[str, ...]]:
    """Rows of the page's table, lowest first: the rooms that each names."""
    rows = re.findall(r"^\| (`[^|]*`) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [tuple(re.findall(r"`(\w+)`", row)) for row in rows]


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name; a script beside a folder of its name as ``NAME.script``."""
    return {
        _name_of(package, file.relative_to(ROOT / folder), file): ast.parse(file.read_text(encoding="utf-8"))
        for package, folder in FOLDERS.items()
        for file in sorted((ROOT / folder).rglob("*.py"))
    }


def _name_of(package: str, place: Path, file: Path) -> str:
    name = ".".join((package, *place.with_suffix("").parts)).removesuffix(".__init__")
    return f"{name}.script" if (file.with_suffix("") / "__init__.py").is_file() else name


def imports_of(tree: ast.AST) -> set[str]:
    """Modules that are imported anywhere in the tree, `from x import y` as x and x.y."""
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return imported


def room_of(module: str) -> str:
    """`patchboard.plan.cost` -> `plan`; the package's own `__init__` is the room `patchboard`."""
    return module.split(".")[1] if "." in module else module


def arrows() -> set[tuple[str, str]]:
    """(room, room that it imports)"""
    trees = modules()
    pairs = {(room_of(name), room_of(i)) for name, tree in trees.items() for i in imports_of(tree) if i in trees}
    return {(above, below) for above, below in pairs if above != below and {above, below}.isdisjoint(_TOP)}


def drawn(all_arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Arrows without those that a path of others replaces."""
    below: dict[str, set[str]] = {}
    for above, room in all_arrows:
        below.setdefault(above, set()).add(room)

    @cache
    def reached(room: str) -> set[str]:
        return set().union(*({each} | reached(each) for each in below.get(room, ())))

    return {
        (above, room)
        for above, rooms in below.items()
        for room in rooms
        if not any(room in reached(other) for other in rooms)
    }


def picture() -> str:
    """The rooms as boxes, the lowest at the bottom, an arrow for each import that no path of others stands for."""
    rows = order()[::-1]
    widths = {room: _LETTER * len(room) + 20 for row in rows for room in row}
    width = max(sum(widths[room] + _GAP for room in row) for row in rows) + 420
    boxes: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        # rows are set off from each other, so that arrows past a row stay visible
        x = (width - sum(widths[room] + _GAP for room in row)) / 2 + (-130, 0, 130, 0)[number % 4]
        for room in row:
            boxes[room] = (x, 12 + number * _ROW)
            x += widths[room] + _GAP
    lines = list(_lines(boxes, widths))
    size = f'width="{width:.0f}" height="{len(rows) * _ROW}"'
    style = 'font-family="monospace" font-size="12.5" text-anchor="middle"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', *lines, "</svg>", ""])


def _lines(boxes: dict[str, tuple[float, float]], widths: dict[str, float]) -> Iterator[str]:
    yield '<rect width="100%" height="100%" fill="white"/>'
    yield '<marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    yield '<path d="M0 0 L8 4 L0 8 z" fill="#555"/></marker>'
    for above, below in sorted(drawn(arrows())):
        (x, y), (to_x, to_y) = boxes[above], boxes[below]
        start, end = f"{x + widths[above] / 2:.0f} {y + _HEIGHT:.0f}", f"{to_x + widths[below] / 2:.0f} {to_y:.0f}"
        yield f'<path d="M{start} L{end}" stroke="#555" fill="none" stroke-width="0.8" marker-end="url(#a)"/>'
    for room, (x, y) in boxes.items():
        size = f'width="{widths[room]:.0f}" height="{_HEIGHT}"'
        yield f'<rect x="{x:.0f}" y="{y:.0f}" {size} rx="5" fill="#e8eef7" stroke="#456"/>'
        yield f'<text x="{x + widths[room] / 2:.0f}" y="{y + 17:.0f}">{escape(room)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)}: {len(boxes := arrows())} arrows, {len(drawn(boxes))} drawn")
