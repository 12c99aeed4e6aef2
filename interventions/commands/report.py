"""`patchboard report`: the figures and the page of a finished run, drawn again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from patchboard.user_paths import expanded


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("report", help="draw a run's figures and page again")
    parser.add_argument("folder", type=expanded, metavar="RUN_DIR")
    parser.set_defaults(act=act)


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    from patchboard.api.result import open

    print(open(args.folder).write_report())
    return 0
