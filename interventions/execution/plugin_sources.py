"""Digests of the users' code that a study may run: plug-in files, installed plug-ins, and pieces of a notebook."""

from __future__ import annotations

import hashlib
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any

from patchboard.plugin_files import active_files
from patchboard.registry import Enrolment, Registry
from patchboard.spec import Study


def plugin_sources(study: Study) -> dict[str, str]:
    """Plug-in -> sha256 of its source, for a run's identity.

    Files that are active, with the user's own modules that they import, by name; of installed distributions and of the
    running notebook or script the pieces that the study names, each as ``op 'clamp'``.
    """
    digests = {path: digest for file in active_files() for path, digest in file.digests.items()}
    names = [path.name for path in digests]
    files = {path.name if names.count(path.name) == 1 else str(path): digest for path, digest in digests.items()}
    pieces = {
        called: piece_digest(enrolment.entry if enrolment.piece is None else enrolment.piece)
        for kind in ("distribution", "session")
        for called, enrolment in pieces_of(study, kind).items()
    }
    return {**files, **pieces}


def pieces_of(study: Study, kind: str) -> dict[str, Enrolment]:
    """The pieces of that kind of origin that the study names, each as ``op 'clamp'``."""
    words = set(_words(study.tree))
    return {
        f"{registry.kind} '{name}'": enrolment
        for registry in Registry.all
        for name, enrolment in registry.enrolments(kind).items()
        if name in words or registry.kind == _MODEL_FAMILY
    }


_MODEL_FAMILY = "model family"
"""Kind whose names stand in models' configurations, and not in a spec."""
_PLAIN = (str, bytes, int, float, complex, bool, type(None))


def _words(node: Any) -> Iterator[str]:
    """All keys and texts of a tree."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield str(key)
            yield from _words(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _words(value)


def piece_digest(piece: Any) -> str:
    """sha256 of the source of a function, of a class's members, or of another object's text, and of all that it names
    in its own module."""
    told = hashlib.sha256()
    for text in _sources(piece, set()):
        told.update(text.encode())
        told.update(b"\0")
    return told.hexdigest()


def _sources(value: Any, seen: set[int]) -> Iterator[str]:
    if not isinstance(value, _PLAIN):
        if id(value) in seen:
            return
        seen.add(id(value))
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, types.FunctionType):
        yield _source(value)
        yield from _sources(value.__defaults__, seen)
        for name in sorted(_names(value.__code__)):
            if name in value.__globals__:
                yield from _named(name, value.__globals__[name], value.__module__, seen)
        for cell in value.__closure__ or ():
            yield from _sources(cell.cell_contents, seen)
    elif inspect.isclass(value):
        # member by member: of a class in a notebook Python has no source
        for name, member in sorted(vars(value).items()):
            if not name.startswith("__") or callable(member):
                yield name
                yield from _sources(member, seen)
        for base in value.__bases__:
            if base.__module__ == value.__module__:
                yield from _sources(base, seen)
    elif isinstance(value, types.ModuleType):
        yield value.__name__
    elif isinstance(value, list | tuple | set | frozenset | Mapping):
        for each in value.items() if isinstance(value, Mapping) else value:
            yield from _sources(each, seen)
    elif isinstance(value, _PLAIN):
        yield repr(value)
    else:
        yield type(value).__qualname__
        yield from _sources(getattr(value, "__dict__", None) or repr(value), seen)


def _named(name: str, value: Any, module: str, seen: set[int]) -> Iterator[str]:
    """What a function finds under a name outside of it: code of its own module in full, another module's by name."""
    code = isinstance(value, types.FunctionType) or inspect.isclass(value)
    yield name
    if not code or value.__module__ == module:
        yield from _sources(value, seen)


def _names(code: types.CodeType) -> set[str]:
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return {*code.co_names}.union(*map(_names, inner))


def _source(function: types.FunctionType) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # typed at a prompt
        code = function.__code__
        return f"{code.co_code.hex()} {[const for const in code.co_consts if not isinstance(const, types.CodeType)]}"
