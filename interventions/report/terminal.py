"""Where tables for the terminal go."""

from __future__ import annotations

from rich.console import Console


def standard_output() -> Console:
    """Wide where it is no terminal, so that what is piped into a file is not folded."""
    console = Console()
    return console if console.is_terminal else Console(width=150)
