"""Whether this process is a command line's own: nothing will use it when the command is done."""

from __future__ import annotations

_own = False


def claim() -> None:
    """The command line is the process's own arguments, not a list that some program gave."""
    global _own
    _own = True


def is_own() -> bool:
    return _own
