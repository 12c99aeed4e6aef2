"""Whether a model's own Python code may run in this process: never, unless ``--trust-remote-code`` was given.

A folder or Hub repository can name code of its own (``auto_map``) for its configuration, tokenizer and model. To run it
is the consent of who started the process and of nobody else, so it is no field of a spec: a spec from elsewhere must
not bring it along. A command line gives it for the process, a call from Python for that call.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from patchboard.tasks.files import sha256_of

_MODULES = "transformers_modules."
"""What transformers calls the modules that it makes of such code."""

_trusted: ContextVar[bool] = ContextVar("trusted", default=False)


def trust_code(trusted: bool) -> None:
    """trusted: whether the command line of this process has the flag."""
    _trusted.set(trusted)


@contextmanager
def trusting(trusted: bool) -> Iterator[None]:
    """Within, code is trusted where the caller says so, too; a call in another thread has no part in it."""
    token = _trusted.set(trusted or _trusted.get())
    try:
        yield
    finally:
        _trusted.reset(token)


def code_is_trusted() -> bool:
    return _trusted.get()


def code_run() -> dict[str, str]:
    """Files of such code that this process has imported -> their sha256, for the manifest."""
    files = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.startswith(_MODULES) and file and Path(file).name != "__init__.py":
            files[name.removeprefix(_MODULES)] = sha256_of(file)
    return dict(sorted(files.items()))
