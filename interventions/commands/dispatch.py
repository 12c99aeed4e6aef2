"""The commands of `patchboard`, a module each: its flags, and what it does."""

from __future__ import annotations

from patchboard.cli.arguments import Parser
from patchboard.cli.run_flags import parse_flags
from patchboard.commands import (
    check,
    emit,
    init,
    ls,
    recommend,
    report,
    run,
    schema,
    sweep,
    track,
    validate,
    vectors,
    view,
)
from patchboard.errors import SpecError

COMMANDS = (run, validate, check, ls, schema, report, view, recommend, vectors, track, sweep, init, emit)
"""Each has ``add_parser(commands)``, which sets ``act``: (arguments, overrides of the spec) -> exit status."""


def dispatch(arguments: list[str]) -> int:
    """The ``patchboard`` command; returns the exit status. Raises PatchboardError."""
    parser = Parser(
        prog="patchboard", description="Causal interventions on language models from a YAML spec.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"patchboard {_version()}")
    parser.set_defaults(takes_overrides=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    for command in COMMANDS:
        command.add_parser(commands)
    args, overrides = parse_flags(parser, arguments)
    if overrides and not args.takes_overrides:
        raise SpecError(overrides[0], f"is no argument of `patchboard {args.command}`", "see --help")
    return args.act(args, overrides)


def _version() -> str:
    from importlib.metadata import version

    return version("patchboard")
