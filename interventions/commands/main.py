"""The ``patchboard`` command. Imports nothing before Ctrl-C can be caught; ``dispatch`` has the rest."""

from __future__ import annotations

from patchboard.cli.guard import given, guarded

TYPE_CHECKING = False  # as in ``guard``
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""

    def act() -> int:
        from patchboard.commands.dispatch import dispatch

        return dispatch(given(arguments))

    return guarded(act)
