"""Plug-in files: Python sources that register pieces, read once for each content, there for the studies that name them.

The registries are one a process. So that no study sees pieces of a file that it does not name, ``activate`` has the
pieces of exactly the files that it is given; a study does so when it is made, planned and run. Pieces of installed
distributions (entry points ``patchboard.plugins``) and of the running notebook or script are there for all studies.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from patchboard.errors import PatchboardError, PluginError
from patchboard.registry import Enrolment, Origin, Registry, suggest

GROUP = "patchboard.plugins"
"""Entry points of this group name modules that register pieces."""
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class PluginFile:
    """A plug-in file as it was read."""

    path: Path
    digests: dict[Path, str]
    """sha256 of the file and of the user's own modules that it imports, by path."""
    pieces: tuple[tuple[Registry, str, Enrolment], ...]
    modules: tuple[str, ...]
    """Names of those own modules: a changed one is imported anew."""


_read: dict[Path, PluginFile] = {}
_active: tuple[Path, ...] = ()
_of_process: tuple[Path, ...] = ()
_entry_points_loaded: set[str] = set()
_origin: ContextVar[Origin | None] = ContextVar("origin of what is registered", default=None)


@contextmanager
def registering_from(origin: Origin) -> Iterator[None]:
    """What a plug-in registers in the body comes from ``origin``."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


def origin_now() -> Origin | None:
    """Of what is registered now; None where no plug-in is being read."""
    return _origin.get()


def use_in_process(files: Sequence[Path]) -> None:
    """The plug-ins of the command line: every study of this process has them beside its own."""
    global _of_process
    _of_process = tuple(files)


def files_of_process() -> tuple[Path, ...]:
    """As ``use_in_process`` has them."""
    return _of_process


def activate(paths: Sequence[Path]) -> None:
    """Have the pieces of these files and of no other file in the registries; a changed file is read again.

    Raises PluginError: no such file; ``file:line`` of what fails in it; a name that is taken.
    """
    global _active
    load_entry_points()
    _remove(lambda enrolment: enrolment.origin.kind == "file")
    _active = ()
    for path in paths:
        known = _read.get(path)
        if known is None or known.digests != _digests(known.digests):
            known = _read[path] = _load(path)
        else:
            for registry, name, enrolment in known.pieces:
                registry.enrol(name, enrolment)
        _active = (*_active, path)


def active_files() -> tuple[PluginFile, ...]:
    """The files whose pieces are in the registries."""
    return tuple(_read[path] for path in _active)


def any_in_use() -> bool:
    """Whether code of users has a part in this process, of files or of installed distributions."""
    return bool(_active or _entry_points_loaded)


def load_entry_points() -> None:
    """Import the modules that installed distributions name, once a process. Raises PluginError."""
    for point in _installed(tuple(sys.path)):
        if point.value in _entry_points_loaded:
            continue
        origin = distribution_origin(point)
        where = f"entry point '{point.name}' of {origin.name}"
        with registering_from(origin):
            _guarded(where, None, lambda point=point: point.load())
        _entry_points_loaded.add(point.value)


@lru_cache(maxsize=1)
def _installed(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Of all distributions on the path, which takes reading a file of each."""
    return tuple(entry_points(group=GROUP))


def distribution_origin(point: EntryPoint) -> Origin:
    """Of what the module of an entry point registers."""
    return Origin("distribution", f"{point.dist.name} {point.dist.version}" if point.dist else point.name)


def _load(path: Path) -> PluginFile:
    if not path.is_file():
        near = suggest(path.name, [file.name for file in path.parent.glob("*.py")])
        remedy = near if near.startswith("did you mean") else "give the path of a Python file"
        raise PluginError(str(path), "there is no such file", remedy)
    for name in {name for plugin in _read.values() for name in plugin.modules}:
        sys.modules.pop(name, None)  # an older content, or a module of this name beside another plug-in
    origin = Origin("file", str(path))
    try:
        module = _executed(path, origin)
    except PluginError:
        _remove(lambda enrolment: enrolment.origin == origin)
        raise
    own = [each for each in _own_modules(module) if each is not module]
    files = [path, *(Path(str(each.__file__)) for each in own)]
    pieces = tuple(
        (registry, name, enrolment)
        for registry in Registry.all
        for name, enrolment in registry.enrolments("file").items()
        if enrolment.origin == origin
    )
    if not pieces:
        raise PluginError(str(path), "registers nothing", "use @pb.register.op(…) or another of docs/plugins.md")
    return PluginFile(path, _digests(files), pieces, tuple(each.__name__ for each in own))


def _executed(path: Path, origin: Origin) -> ModuleType:
    """The file as a module, what it registers enrolled. It may import modules that lie beside it."""
    name = f"patchboard_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.append(str(path.parent))  # last: a file of the user's must not hide a library's module
    try:
        with registering_from(origin):
            # compiled here: a cache of bytecode is told by seconds, and an edit within one would be missed
            _guarded(str(path), path, lambda: exec(compile(path.read_bytes(), str(path), "exec"), vars(module)))
    finally:
        sys.path.remove(str(path.parent))
    return module


def _guarded(where: str, file: Path | None, action: Callable[[], object]) -> None:
    """Run code of the user's; whatever it raises becomes one line with the line of the file. Raises PluginError."""
    try:
        action()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(file) else (lines or [None])[-1]
        at = where if line is None else f"{where}:{line}"
        if isinstance(error, PatchboardError):
            raise PluginError(f"{at}: {error.where}", error.what, error.remedy) from error
        text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
        what = f"cannot be read as a plug-in ({type(error).__name__}{': ' if text else ''}{text})"
        raise PluginError(at, what, "mend that line") from error


def _remove(chosen: Callable[[Enrolment], bool]) -> None:
    for registry in Registry.all:
        for name, enrolment in [*registry.enrolments("file").items()]:
            if chosen(enrolment):
                registry.remove(name)


def _digests(files: Iterable[Path]) -> dict[Path, str]:
    """sha256 of each file; empty of one that is gone."""
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "" for file in files}


def _own_modules(module: ModuleType) -> Iterator[ModuleType]:
    """The module and those of the user's own that it imports, in turn: neither installed ones nor ours."""
    seen, open_ones = {module.__name__}, [module]
    while open_ones:
        current = open_ones.pop()
        yield current
        for name in _imports_of(Path(str(current.__file__)).read_bytes()):
            imported = sys.modules.get(name)
            if imported is not None and name not in seen and is_users_own(imported):
                seen.add(name)
                open_ones.append(imported)


def _imports_of(source: bytes) -> Iterator[str]:
    """Modules that are imported anywhere in it; of ``from a import b`` a and a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_users_own(module: ModuleType) -> bool:
    """Whether a module is a file of the user's: not installed, not Python's own, not ours, not a notebook."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or module.__name__ == "__main__" or module.__name__.split(".")[0] == "patchboard":
        return False
    path = Path(file)
    return not path.is_relative_to(sysconfig.get_path("stdlib")) and not {*path.parts} & {*_INSTALLED}
