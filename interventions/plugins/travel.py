"""What of a piece travels to a server, and what cannot: the check of names that our own trace bodies are held to.

A request holds functions as source, and what they name: plain data, tensors, functions and classes of the same file
by value; of other modules only what a server has. So all that a function reaches is looked at before anything is sent.
"""

from __future__ import annotations

import dis
import inspect
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from patchboard.errors import PluginError
from patchboard.metrics import METRICS
from patchboard.ops import OPS
from patchboard.registry import OWN, Registry
from patchboard.vectors.fitters import FITTERS

ON_A_SERVER = (
    "__future__", "builtins", "collections", "dataclasses", "einops", "enum", "functools", "heapq", "math", "numpy",
    "operator", "re", "torch", "transformers", "typing", "warnings",
)  # fmt: skip
"""Of NDIF's published list, what a piece may name: these modules and all below them …"""
_BLOCKED = (
    "torch.hub", "torch.multiprocessing", "torch.package", "torch.utils.cpp_extension", "torch.utils.model_zoo",
    "numpy.ctypeslib", "numpy.distutils",
)  # fmt: skip
"""… but for these."""
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), slice, range)


class CannotTravel(Exception):
    """What is named, and why it stays here: ``'pd' (module pandas, which a server does not have)``."""


def check_travels(what: str, function: Any) -> None:
    """Raises PluginError for the first name that ``function`` reaches and that cannot travel. what: of messages."""
    module = getattr(function, "__module__", "")
    try:
        _check(function, _Journey(module))
    except CannotTravel as refusal:
        remedy = "write what it needs into the plug-in's own file, or run it here"
        raise PluginError("--remote", f"{what} cannot travel: {refusal}", remedy) from None


def check_pieces_travel(ops: Iterable[str], fitters: Iterable[str], metrics: Iterable[str]) -> None:
    """Raises PluginError for the first op, fitter or metric of a user that a server could not run. By their names."""
    pieces: tuple[tuple[Registry, Iterable[str], Callable[[Any], Any]], ...] = (
        (OPS, ops, lambda op: op.apply),
        (FITTERS, fitters, lambda fitter: fitter.host_builder() or fitter.builder()),
        (METRICS, metrics, lambda metric: metric.score),
    )
    for registry, names, function_of in pieces:
        for name in sorted(names):
            enrolment = registry.enrolment(name)
            if enrolment.origin != OWN:
                what = f"{registry.kind} '{name}' of {enrolment.origin.name}"
                check_travels(what, function_of(enrolment.entry))


class _Journey:
    """What was looked at on the way. home: the module of the piece, which travels by value."""

    def __init__(self, home: str):
        self.home = home
        self.seen: set[int] = set()

    def by_value(self, module: str) -> bool:
        """Whether what a module defines is sent as source: the piece's own, ours, and a notebook's."""
        return module in (self.home, "__main__") or module.split(".")[0] == "patchboard"


def _check(value: Any, journey: _Journey) -> None:
    if isinstance(value, _PLAIN) or id(value) in journey.seen:
        return
    journey.seen.add(id(value))
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if isinstance(value, ModuleType):
        _check_module(value.__name__)
    elif isinstance(value, FunctionType):
        _check_function(value, journey)
    elif isinstance(value, type):
        _check_class(value, journey)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for entry in value:
            _check(entry, journey)
    elif isinstance(value, Mapping):
        for entry in (*value.keys(), *value.values()):
            _check(entry, journey)
    elif isinstance(value, partial):
        _check([value.func, value.args, value.keywords], journey)
    elif isinstance(value, io.IOBase):
        raise CannotTravel("an open file")
    elif hasattr(value, "__wrapped__"):
        raise CannotTravel(f"a {type(value).__name__} around a function, expected the function itself")
    elif isinstance(value, BuiltinFunctionType):
        _check_module(value.__module__ or type(value.__self__).__module__)
    else:
        _check_object(value, journey)


def _check_module(name: str) -> None:
    if not _below(name, ON_A_SERVER) or _below(name, _BLOCKED):
        raise CannotTravel(f"module {name}, which a server does not have")


def _below(name: str, roots: tuple[str, ...]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def _check_function(function: FunctionType, journey: _Journey) -> None:
    module = function.__module__ or ""
    if not journey.by_value(module):
        if _below(module, ON_A_SERVER) and not _below(module, _BLOCKED):
            return
        raise CannotTravel(f"of module {module}, which a server does not have")
    try:
        inspect.getsource(function)
    except (OSError, TypeError):
        raise CannotTravel("a function without source") from None
    for name, value in _named_by(function):
        _check_named(name, value, journey)
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for value in (*defaults, *(function.__annotations__ or {}).values()):
        _check(value, journey)


def _named_by(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """(name, value) of the modules that it imports, and of what it finds outside of itself."""
    for kind, name in _outer_names(function.__code__):
        if kind == "import":
            yield name, _Import(name)
        elif name in function.__globals__:
            yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, cell.cell_contents


class _Import:
    """An import statement in a function's body, which runs on the server."""

    def __init__(self, module: str):
        self.module = module


def _outer_names(code: CodeType) -> Iterator[tuple[str, str]]:
    """(kind, name) of what the code, and functions inside it, look up outside: ``import`` or ``global``."""
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            yield "import", step.argval
        elif step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"):
            yield "global", step.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _outer_names(constant)


def _check_named(name: str, value: Any, journey: _Journey) -> None:
    """Raises CannotTravel with the name in front."""
    try:
        if isinstance(value, _Import):
            _check_module(value.module)
        else:
            _check(value, journey)
    except CannotTravel as refusal:
        inner = str(refusal)
        link = f", which names {inner}" if inner.startswith("'") else f" ({inner})"
        raise CannotTravel(f"'{name}'{link}") from None


def _check_class(kind: type, journey: _Journey) -> None:
    if not journey.by_value(kind.__module__):
        _check_module(kind.__module__)
        return
    for base in kind.__bases__:
        _check(base, journey)
    for name, member in vars(kind).items():
        if isinstance(member, property):
            member = [member.fget, member.fset, member.fdel]
        if not name.startswith("__") or isinstance(member, FunctionType):
            _check_named(name, member, journey)


def _check_object(value: Any, journey: _Journey) -> None:
    kind = type(value)
    module = sys.modules.get(kind.__module__)
    if journey.by_value(kind.__module__) and module is not None:
        _check(kind, journey)
        _check(getattr(value, "__dict__", {}), journey)
    elif not _below(kind.__module__, ON_A_SERVER) or kind.__module__ == "builtins":
        raise CannotTravel(f"a {kind.__module__}.{kind.__qualname__}, which is no plain data")
