"""`patchboard report`: the figures and the page of a finished run, drawn again; or a page with other runs beside it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from patchboard.cli.arguments import add_figures_flag
from patchboard.user_paths import expanded


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("report", help="draw a run's figures and page again, or lay other runs over it")
    parser.add_argument("folder", type=expanded, metavar="RUN_DIR")
    parser.add_argument("others", type=expanded, nargs="*", metavar="OTHER_DIR", help="write a page with their curves")
    add_figures_flag(parser)
    parser.set_defaults(act=act)


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    from patchboard.api.result import open

    if args.others:
        from patchboard.report.page import write_comparison

        print(write_comparison(args.folder, [open(other).path for other in args.others]))
        return 0
    print(open(args.folder).write_report(args.figures))
    return 0
