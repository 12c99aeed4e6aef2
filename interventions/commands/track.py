"""`patchboard track`: finished runs mirrored to W&B."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from patchboard.track.mode import CHOICES
from patchboard.user_paths import expanded


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("track", help="mirror finished runs to W&B")
    parser.add_argument("folders", nargs="+", type=expanded, metavar="RUN_DIR")
    parser.add_argument("--wandb", default="auto", choices=CHOICES[:-1], help="default: auto")
    parser.set_defaults(act=act)


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    from patchboard.track.finished import mirror
    from patchboard.track.mode import wanted
    from patchboard.track.session import say

    for folder in args.folders:
        print(mirror(folder, wanted(args.wandb, os.environ), say))
    return 0
