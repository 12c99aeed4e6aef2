"""`patchboard init`: a commented spec to start from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from patchboard.user_paths import expanded


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("init", help="write a commented spec to start from; without a name, list them")
    parser.add_argument("recipe", nargs="?", metavar="RECIPE")
    parser.add_argument("--out", type=expanded, metavar="FILE.yaml", help="where to (default: RECIPE.yaml)")
    parser.set_defaults(act=act)


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    from patchboard.recipes import listing, written

    print(listing() if args.recipe is None and args.out is None else written(args.recipe, args.out))
    return 0
