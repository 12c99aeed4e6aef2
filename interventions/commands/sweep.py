"""`patchboard sweep`: a W&B sweep file, run on this machine or as jobs of a cluster."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from patchboard.cli.arguments import add_figures_flag
from patchboard.track.mode import CHOICES
from patchboard.user_paths import expanded


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("sweep", help="run a W&B sweep file without a W&B server", allow_abbrev=False)
    parser.add_argument("file", type=expanded, metavar="SWEEP.yaml")
    parser.add_argument("--jobs", type=int, metavar="N", help="points (of a launcher: jobs) at a time (default: 1)")
    parser.add_argument("--count", type=int, metavar="N", help="points at most; random and bayes need one")
    parser.add_argument("--out", type=expanded, metavar="DIR", help="folder (default: runs/sweep-NAME-DIGEST)")
    parser.add_argument(
        "--wandb", default="off", choices=CHOICES, help="mirror each point's run to W&B too (default: off)"
    )
    parser.add_argument("--launcher", metavar="NAME", help="submitit: points as jobs of a SLURM cluster (extra slurm)")
    parser.add_argument(
        "--launcher-options", metavar="OPTIONS", help="partition=gpu,gpus_per_node=1,timeout_min=240, or a YAML file"
    )
    parser.add_argument("--points-per-job", type=int, metavar="N", help="run one after the other (default: 1)")
    parser.add_argument("--detach", action="store_true", help="submit the jobs and end; the same command collects them")
    add_figures_flag(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress, no table")
    parser.add_argument("--json", action="store_true", help="print sweep.json instead of a table")
    parser.set_defaults(act=act)


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    from patchboard.api.sweep import run_points
    from patchboard.report.progress import progress
    from patchboard.sweeps.launch import launch_of

    launch = launch_of(args.launcher, args.launcher_options, args.points_per_job, args.detach)
    with progress(shown=not args.quiet and sys.stderr.isatty()) as tick:
        sweep = run_points(
            args.file,
            args.jobs,
            args.count,
            args.out,
            args.wandb,
            tick,
            lambda line: print(line, file=sys.stderr),
            launch,
            args.figures,
        )
    if sweep.jobs:
        if args.json:
            print(json.dumps({"folder": str(sweep.path), "jobs": sweep.jobs}))
        else:
            print(f"under way: {', '.join(sweep.jobs)}\nthe same command without --detach waits for them: {sweep.path}")
    elif args.json:
        print((sweep.path / "sweep.json").read_text(encoding="utf-8"), end="")
    elif not args.quiet:
        from patchboard.sweeps.show import print_sweep

        print_sweep(sweep.path)
    return sweep.status
