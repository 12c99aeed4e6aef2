"""The way in from every command line. Imports nothing before Ctrl-C can be caught."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing's own takes milliseconds to import, in which an interrupt would be a traceback
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

EXIT_INTERRUPTED = 130


def script(default_spec: Path, description: str, arguments: Sequence[str] | None = None) -> int:
    """A script's command line: ``run`` with a spec of its own where none is given."""

    def act() -> int:
        from patchboard.cli.run_or_plan import run_script

        return run_script(default_spec, description, given(arguments))

    return guarded(act)


def given(arguments: Sequence[str] | None) -> list[str]:
    if arguments is not None:
        return list(arguments)
    from patchboard.cli.own_process import claim

    claim()
    return sys.argv[1:]


def guarded(action: Callable[[], int], kept: str = "finished parts are kept") -> int:
    """Users' errors become one line and their exit status; Ctrl-C leaves a resumable run and says so.

    kept: what outlasts an interrupt.
    """
    try:
        return _told(action)
    except KeyboardInterrupt:
        print(f"interrupted: {kept}, the same command resumes", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `patchboard ls | head`: not an error
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _told(action: Callable[[], int]) -> int:
    from patchboard.errors import PatchboardError

    try:
        return action()
    except PatchboardError as error:
        print(f"error: {error.one_line()}", file=sys.stderr)
        return error.exit_status
