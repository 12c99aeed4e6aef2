"""`patchboard validate`: any YAML file of ours, checked by its own kind."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from patchboard.cli.arguments import add_plugins_flag
from patchboard.errors import PatchboardError
from patchboard.plugin_files import use_in_process
from patchboard.user_paths import expanded


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("validate", help="check specs, experiments' settings and sweeps", allow_abbrev=False)
    parser.add_argument("specs", nargs="+", type=expanded, metavar="FILE.yaml")
    add_plugins_flag(parser)
    parser.set_defaults(act=act)


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    from patchboard.commands.validate_file import validated

    use_in_process(args.plugins)
    status = 0
    for path in args.specs:
        try:
            print(f"{path}: {validated(path)}")
        except PatchboardError as error:
            line, status = error.one_line(), error.exit_status
            named = len(args.specs) == 1 or line.startswith(str(path))  # of several files a line says which
            print(f"error: {line if named else f'{path}: {line}'}", file=sys.stderr)
    return status
