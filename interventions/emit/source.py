"""Functions of ours as text that stands alone in a script: a run and a script have one formula, not two."""

from __future__ import annotations

import ast
import builtins
import inspect
import keyword
import re
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

from patchboard.errors import SpecError
from patchboard.ops import SubspaceTensors

_AT_HAND = {"torch", "numpy"}
"""Packages that a script may import, beside Python's own."""

Edit = tuple[int, int, str]
"""(from, to, text in place of it), in bytes of the source."""


@dataclass
class Sources:
    """Definitions that a script needs, in order, and the modules that these import.

    taken: names that the script uses for something else.
    """

    taken: frozenset[str] = frozenset()
    imports: dict[str, None] = field(default_factory=dict)
    definitions: dict[str, str] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)  # so that no id is given to another function

    def add(self, function: Callable, name: str, where: str, doc: str = "") -> str:
        """Define the function, under ``name`` where that is free, and all that it needs; returns its name.

        doc: its docstring where it has none. Raises SpecError at ``where`` for one whose source does not stand alone.
        """
        if id(function) in self._names:
            return self._names[id(function)]
        name = self._free(name)
        self._names[id(function)] = name
        self._kept.append(function)
        text = self._text(function, name, where, doc)
        self.definitions[name] = text  # behind all that it needs, which were defined on the way
        return name

    def _free(self, name: str) -> str:
        name = re.sub(r"\W", "_", name)
        used = {*self.taken, *self.definitions, *self._names.values(), *dir(builtins), *keyword.kwlist}
        while name in used or not name.isidentifier():
            name = f"{name}_" if name[:1].isidentifier() else f"_{name}"
        return name

    def _text(self, function: Callable, name: str, where: str, doc: str) -> str:
        if not isinstance(function, FunctionType) or function.__closure__:
            raise SpecError(where, "is no plain function, whose source could be written out", _REMEDY)
        try:
            code = textwrap.dedent(inspect.getsource(function))
            (tree,) = ast.parse(code).body
        except (OSError, TypeError, SyntaxError, ValueError):
            raise SpecError(where, "has no source that could be written out", _REMEDY) from None
        if not isinstance(tree, ast.FunctionDef) or not all(map(_leaves_alone, tree.decorator_list)):
            raise SpecError(where, "is no plain function, whose source could be written out", _REMEDY)
        starts = [0]
        for line in code.encode().splitlines(keepends=True):
            starts.append(starts[-1] + len(line))

        def at(line: int, column: int) -> int:
            return starts[line - 1] + column

        edits = _without_annotations(tree, code.encode(), at)
        header = at(tree.lineno, tree.col_offset + len("def "))
        edits.append((header, header + len(tree.name), name))
        edits += self._resolved(tree, function, where, at)
        body = tree.body[0].lineno
        lines = code.splitlines()
        while lines[body - 2].lstrip().startswith("#"):
            body -= 1
        if doc and not ast.get_docstring(tree):
            indent = " " * tree.body[0].col_offset
            edits.append((at(body, 0), at(body, 0), f'{indent}"""{_wrapped(doc, indent)}"""\n'))
        return _edited(code.encode(), edits)[at(tree.lineno, 0) :].decode().rstrip() + "\n"

    def _resolved(self, tree: ast.FunctionDef, function: FunctionType, where: str, at: Any) -> list[Edit]:
        """Replacements for names of functions that stand elsewhere under another name; what they need is defined."""
        edits: list[Edit] = []
        for node, owner in _free_names(tree):
            known = function.__globals__.get(node.id)
            if isinstance(known, ModuleType):
                self._import(known, node.id, where)
            elif known is SubspaceTensors:
                continue  # the script has a class of that name
            elif (
                isinstance(known, type)
                and owner is not None
                and isinstance(getattr(known, owner.attr, None), FunctionType)
            ):
                name = self.add(getattr(known, owner.attr), f"{owner.attr}_{known.__name__.lower()}", where)
                edits.append((at(owner.lineno, owner.col_offset), at(owner.end_lineno, owner.end_col_offset), name))
            elif isinstance(known, FunctionType):
                name = self.add(known, known.__name__, where)
                edits.append((at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset), name))
            elif isinstance(known, bool | int | float | str):
                self.definitions.setdefault(node.id, f"{node.id} = {known!r}\n")
            else:
                raise SpecError(where, f"uses {node.id}, which cannot be written out", _REMEDY)
        return edits

    def _import(self, module: ModuleType, name: str, where: str) -> None:
        root = module.__name__.split(".")[0]
        if root not in _AT_HAND and root not in sys.stdlib_module_names:
            raise SpecError(where, f"imports {root}, which a script cannot count on", _REMEDY)
        line = f"import {module.__name__}" + (f" as {name}" if name != module.__name__ else "")
        self.imports[line] = None


_REMEDY = "leave it out, or write it as a function of tensors alone"


def _leaves_alone(decorator: ast.AST) -> bool:
    """Whether a decorator gives the function itself back, as `@pb.register.op(…)` does."""
    return re.fullmatch(r"staticmethod|(\w+\.)?register\.\w+\(.*\)", ast.unparse(decorator), re.DOTALL) is not None


def _wrapped(doc: str, indent: str) -> str:
    """The first paragraph of a docstring, in lines of at most 88 columns."""
    text = " ".join(inspect.cleandoc(doc).split("\n\n")[0].split())
    lines = textwrap.wrap(text, 88 - len(indent) - 6, break_on_hyphens=False)
    return f"\n{indent}".join(lines).replace("\\", "\\\\").replace('"""', "'''")


def _without_annotations(tree: ast.FunctionDef, code: bytes, at: Any) -> list[Edit]:
    """Annotations name types that a script does not have."""
    edits: list[Edit] = []
    own = tree.args
    defaults = dict(zip(reversed([*own.posonlyargs, *own.args]), reversed(own.defaults), strict=False))
    defaults |= {arg: value for arg, value in zip(own.kwonlyargs, own.kw_defaults, strict=True) if value is not None}
    for arg in (node for node in ast.walk(own) if isinstance(node, ast.arg) and node.annotation):
        assert arg.annotation is not None
        start = at(arg.lineno, arg.col_offset) + len(arg.arg.encode())
        default = defaults.get(arg)
        if default is None:
            edits.append((start, at(arg.annotation.end_lineno, arg.annotation.end_col_offset), ""))
        else:
            edits.append((start, at(default.lineno, default.col_offset), "="))
    if tree.returns:
        end = at(tree.returns.end_lineno, tree.returns.end_col_offset)
        start = code.rindex(b"->", 0, at(tree.returns.lineno, tree.returns.col_offset))
        edits.append((len(code[:start].rstrip()), end, ""))
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and node.value:
            note = node.annotation
            edits.append(
                (at(node.target.end_lineno, node.target.end_col_offset), at(note.end_lineno, note.end_col_offset), "")
            )
    return edits


def _free_names(tree: ast.FunctionDef) -> list[tuple[ast.Name, ast.Attribute | None]]:
    """Names that the body reads and does not make, each with the attribute taken of it."""
    body = ast.Module(body=tree.body, type_ignores=[])
    notes = {id(n) for a in ast.walk(body) if isinstance(a, ast.AnnAssign) for n in ast.walk(a.annotation)}
    made = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)} | set(dir(builtins))
    made |= {n.id for n in ast.walk(body) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    owners = {id(n.value): n for n in ast.walk(body) if isinstance(n, ast.Attribute)}
    names = [n for n in ast.walk(body) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    return [(n, owners.get(id(n))) for n in names if n.id not in made and id(n) not in notes]


def _edited(code: bytes, edits: list[Edit]) -> bytes:
    """The code with the edits made; later text first. What is before a ``def`` stays, its decorators with it."""
    for start, end, text in sorted(edits, reverse=True):
        code = code[:start] + text.encode() + code[end:]
    return code
