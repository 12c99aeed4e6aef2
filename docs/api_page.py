"""Writes docs/api.md from the docstrings of the public names.

    python docs/api_page.py

tests/contract/test_door.py holds the page to them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import patchboard as pb

PAGE = Path(__file__).with_name("api.md")

ABOUT = """# From Python

<!-- written by docs/api_page.py from the docstrings: change those -->

`import patchboard as pb` has the names below, and nothing else is public. It imports nothing heavy until one of them
is used, and changes nothing of the process. Every command of `patchboard` is a thin skin over these functions: same
folders, same numbers, same refusals, as exceptions in place of an exit status.

In the examples `spec` is a small spec as a dict, `study = pb.load(spec)`, `run = pb.run(study)`, `folder = run.path`;
the tests run them. Two notebooks show them at work: [first steps](notebooks/first_steps.ipynb),
[your own op and data](notebooks/own_op_and_data.ipynb).
"""


def page() -> str:
    """The whole page."""
    parts = [ABOUT]
    names = [name for names in pb._HOMES.values() for name in names]  # in the order of their use
    functions = [name for name in names if inspect.isfunction(getattr(pb, name))]
    classes = [name for name in names if inspect.isclass(getattr(pb, name))]
    errors = [name for name in classes if issubclass(getattr(pb, name), pb.PatchboardError)]
    parts += [_entry(f"pb.{name}", getattr(pb, name), 2) for name in functions]
    owner = type(pb.register)
    parts.append(
        f"## pb.register\n\n{_prose(inspect.getdoc(owner) or '')}\n[Plug-ins](plugins.md) has a file of each kind.\n"
    )
    parts += [_entry(f"pb.register.{member}", value, 3) for member, value in _members(owner)]
    for name in classes:
        if name not in errors:
            parts.append(_entry(f"pb.{name}", getattr(pb, name), 2))
            parts += [_entry(f"{name}.{member}", value, 3) for member, value in _members(getattr(pb, name))]
    parts.append("## Errors\n\nAll are `pb.PatchboardError`s: `where`, `what`, `remedy`, and one line as text.\n")
    rows = [f"| `pb.{name}` | {_summary(getattr(pb, name))} |" for name in errors]
    parts.append("\n".join(["| error | is raised where |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _members(owner: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that the class documents, and before them those of its bases in its own room."""
    own = [each for each in reversed(owner.__mro__) if _room(each) == _room(owner)]
    for name, value in (member for each in own for member in vars(each).items()):
        if not name.startswith("_") and inspect.getdoc(_function_of(value)):
            if inspect.isfunction(value) or isinstance(value, property | cached_property):
                yield name, value


def _room(owner: type) -> str:
    return owner.__module__.rpartition(".")[0]


def _function_of(value: Any) -> Any:
    if isinstance(value, property):
        return value.fget
    return value.func if isinstance(value, cached_property) else value


def _entry(name: str, value: Any, level: int) -> str:
    call = f"{name}{_signature(value)}" if inspect.isfunction(value) else name
    return f"{'#' * level} {name}\n\n{_code(call)}{_prose(inspect.getdoc(_function_of(value)) or '')}"


def _code(call: str) -> str:
    return f"```python\n{call}\n```\n\n" if "(" in call else ""


def _signature(function: Any) -> str:
    """With types; one parameter a line where that does not fit."""
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.name != "self"]
    texts = [str(p).replace("'", "") if p.default in (p.empty, None) else str(p) for p in own]
    texts = [re.sub(r"^(\w+): '([^']*)'", r"\1: \2", text) for text in texts]
    first_keyword = next((i for i, p in enumerate(own) if p.kind is p.KEYWORD_ONLY), None)
    if first_keyword is not None and not any(p.kind is p.VAR_POSITIONAL for p in own):
        texts.insert(first_keyword, "*")
    returned = str(signature.return_annotation).strip("'")
    line = f"({', '.join(texts)}) -> {returned}"
    if len(line) <= 100:
        return line
    return "(\n" + "".join(f"    {text},\n" for text in texts) + f") -> {returned}"


def _prose(text: str) -> str:
    """Markdown of a docstring: ``name`` as `name`, an example as a block."""
    out = []
    for part in re.split(r"\n\s*\n", text):
        if part.lstrip().startswith(">>>"):
            out.append(f"```pycon\n{part}\n```")
        else:
            out.append(part.replace("``", "`"))
    return "\n\n".join(out) + "\n"


def _summary(value: Any) -> str:
    return " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split()).replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
