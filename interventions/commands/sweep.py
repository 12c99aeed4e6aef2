"""`patchboard sweep`: a W&B sweep file, run on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from patchboard.track.mode import CHOICES
from patchboard.user_paths import expanded


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("sweep", help="run a W&B sweep file on this machine", allow_abbrev=False)
    parser.add_argument("file", type=expanded, metavar="SWEEP.yaml")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="points at a time (default: 1)")
    parser.add_argument("--count", type=int, metavar="N", help="points at most; random and bayes need one")
    parser.add_argument("--out", type=expanded, metavar="DIR", help="folder (default: runs/sweep-NAME-DIGEST)")
    parser.add_argument(
        "--wandb", default="off", choices=CHOICES, help="mirror each point's run to W&B too (default: off)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, no table")
    parser.add_argument("--json", action="store_true", help="print sweep.json instead of a table")
    parser.set_defaults(act=act)


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    from patchboard.api.sweep import run_points
    from patchboard.report.progress import progress

    with progress(shown=not args.quiet and sys.stderr.isatty()) as tick:
        sweep = run_points(
            args.file, args.jobs, args.count, args.out, args.wandb, tick, lambda line: print(line, file=sys.stderr)
        )
    if args.json:
        print((sweep.path / "sweep.json").read_text(encoding="utf-8"), end="")
    elif not args.quiet:
        from patchboard.sweeps.show import print_sweep

        print_sweep(sweep.path)
    return sweep.status
