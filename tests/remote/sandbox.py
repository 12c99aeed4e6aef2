"""What a job may import on the server: NDIF's list, cut to what its image holds, and its words of refusal.

NDIF replaces `__import__` while a job runs. So do we, but only for callers that are no module of this process,
i.e. for the job's own code: torch and transformers import lazily in mid-forward, and may.
"""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from cloudpickle import cloudpickle
from nnsight.intervention import serialization
from nnsight.intervention.serialization import CustomCloudUnpickler

ALLOWED = (
    "__future__", "_frozen_importlib", "_frozen_importlib_external", "_functools", "argparse", "collections",
    "concurrent", "dataclasses", "encodings", "enum", "functools", "heapq", "io", "json", "math", "re", "time",
    "typing", "warnings",
    "einops", "huggingface_hub", "nnsight.intervention.envoy", "numpy", "regex", "tokenizers", "torch", "tqdm",
    "transformers",
)  # fmt: skip
"""Modules and all below them."""
EXACTLY = ("_operator", "builtins", "nnsight", "operator")
BLOCKED = (
    "torch.multiprocessing", "torch.utils.cpp_extension", "torch.package", "torch.hub", "torch.utils.model_zoo",
    "numpy.ctypeslib", "numpy.distutils",
)  # fmt: skip
UNPICKLED = ("cloudpickle", "copyreg", "nnsight", "pickle")
"""More that a payload may name, but a job's code may not import."""
UNPICKLED_NAMES = {("types", "SimpleNamespace")}
"""nnsight's stand-in for the caller's frame holds one."""
CLIENT = ("experiments", "interventions", "patchboard", "tasks", "tests")
"""The client's own packages: not on a server, wherever this file happens to lie."""


def refusal(module: str) -> ImportError:
    """In NDIF's words."""
    return ImportError(f"Module {module} is not whitelisted", name=module)


def _below(name: str, roots: Sequence[str]) -> bool:
    return any(name == root or name.startswith(root + ".") for root in roots)


def importable(name: str) -> bool:
    """Whether a job's code may import a module."""
    return (name in EXACTLY or _below(name, ALLOWED)) and not _below(name, BLOCKED)


def unpicklable(module: str, name: str) -> bool:
    """Whether a payload may name an object by reference."""
    allowed = importable(module) or (_below(module, UNPICKLED) and not _below(module, BLOCKED))
    return allowed or (module, name) in UNPICKLED_NAMES


def _checked_module(name: str, *rest: Any) -> ModuleType:
    """cloudpickle's way to name a module in a payload."""
    if not importable(name):
        raise refusal(name)
    return cloudpickle.subimport(name) if not rest else cloudpickle.dynamic_subimport(name, *rest)


class Unpickler(CustomCloudUnpickler):
    """nnsight's unpickler, for payloads of strangers."""

    def find_class(self, module: str, name: str) -> Any:
        if not unpicklable(module, name):
            raise refusal(module)
        if name in ("subimport", "dynamic_subimport") and _below(module, ["cloudpickle"]):
            return _checked_module
        return super().find_class(module, name)


class ClientPackages:
    """First on sys.meta_path: the client's packages cannot be imported here by anyone."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if _below(name, CLIENT):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _is_module_of_ours(scope: dict[str, Any] | None) -> bool:
    module = sys.modules.get((scope or {}).get("__name__", ""))
    return module is not None and vars(module) is scope


class ImportGuard:
    """`__import__` of this process; within `job()`, it refuses a job's code what is not whitelisted."""

    def __init__(self) -> None:
        self._original = builtins.__import__
        self._thread = threading.local()
        builtins.__import__ = self
        sys.meta_path.insert(0, ClientPackages())  # pyright: ignore[reportArgumentType]
        # functions shipped by value run with this module's builtins: the same dict, by reference
        assert vars(serialization)["__builtins__"]["__import__"] is self

    def __call__(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        if getattr(self._thread, "guarded", False) and not _is_module_of_ours(globals):
            if level or not importable(name):
                raise refusal(name)
            for part in fromlist or ():  # `from torch import hub` is `import torch.hub`
                if _below(f"{name}.{part}", BLOCKED):
                    raise refusal(f"{name}.{part}")
        return self._original(name, globals, locals, fromlist, level)

    @contextmanager
    def job(self) -> Iterator[None]:
        """Guard what this thread imports."""
        self._thread.guarded = True
        try:
            yield
        finally:
            self._thread.guarded = False
