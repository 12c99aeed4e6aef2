"""`patchboard run` and `patchboard plan`: a spec, as its script runs it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from patchboard.cli.run_flags import add_run_flags
from patchboard.cli.run_or_plan import run_of_flags
from patchboard.user_paths import expanded


def add_parser(commands: Any) -> None:
    about = {
        "run": "run a spec, resume it, or show its finished result",
        "plan": "what a spec would run and cost; needs no weights",
    }
    for name, text in about.items():
        parser = commands.add_parser(name, help=text, allow_abbrev=False)
        parser.add_argument("spec", type=expanded, metavar="SPEC.yaml")
        add_run_flags(parser)
        parser.set_defaults(act=act, takes_overrides=True, **({"plan": True} if name == "plan" else {}))


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    return run_of_flags(args, list(overrides))
