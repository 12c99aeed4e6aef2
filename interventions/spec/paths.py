"""Field paths: a tuple (``("metrics", 1)``), shown as errors and axes name it (``metrics[1]``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

FieldPath = tuple[str | int, ...]


def format_path(path: FieldPath, start: str = "") -> str:
    """``("a", 1, "b")`` -> ``a[1].b``; behind ``start`` where one is given."""
    text = start
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def split_path(text: str) -> tuple[str, ...]:
    """``a[1].b`` or ``a.1.b`` -> its parts, all as text: whether "1" is an index shows in the tree."""
    return tuple(re.sub(r"\[(\d+)\]", r".\1", text).split("."))


def at_path(tree: Any, path: FieldPath) -> Any:
    """What stands at ``path`` in a plain tree; None where nothing does."""
    for part in path:
        if isinstance(tree, Mapping):
            tree = tree.get(part)
        elif isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            tree = tree[part]
        else:
            return None
    return tree
