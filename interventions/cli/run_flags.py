"""The flags of a run, of `patchboard run` and of scripts alike."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from patchboard.cli.arguments import (
    add_figures_flag,
    add_plugins_flag,
    add_trust_flag,
    overrides_apart,
    with_negative_values,
)
from patchboard.execution.options import DEVICES, ENGINES, check_devices, check_engine
from patchboard.track.mode import CHOICES
from patchboard.user_paths import expanded

if TYPE_CHECKING:
    from patchboard.execution.options import Options, Remote
    from patchboard.execution.progress import Tick


def parse_flags(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """What the parser knows, and overrides of the spec."""
    overrides, others = overrides_apart(parser, with_negative_values(parser, arguments))
    known, rest = parser.parse_known_args(_with_bare_remote(others))
    return known, [*overrides, *rest]


def _with_bare_remote(arguments: list[str]) -> list[str]:
    """`--remote SPEC.yaml` is a bare --remote and a spec: only a URL belongs to the flag."""
    following = zip(arguments, [*arguments[1:], ""], strict=False)
    return ["--remote=" if argument == "--remote" and "://" not in after else argument for argument, after in following]


_LAYERS = "layers of every intervention of one edit, as the spec has them: all, 3,5, [3, 5], 0:80:4, {onwards: all}"


def add_spec_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that stand for paths of the spec."""
    spec = parser.add_argument_group("shorthands for paths of the spec (any other: --a.b.c=VALUE)")
    spec.add_argument("--model", metavar="NAME_OR_FOLDER", help="model.name")
    spec.add_argument("--revision", metavar="R", help="model.revision")
    spec.add_argument("--dtype", metavar="DTYPE", help="model.dtype: auto, float32, bfloat16, float16")
    spec.add_argument("--layers", metavar="LAYERS", help=_LAYERS)
    add_plugins_flag(spec)


def _engine(name: str) -> str:
    """Raises SpecError for one that there is not."""
    check_engine(name, "--engine")
    return name


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of every script that runs a spec."""
    add_spec_flags(parser)
    how = parser.add_argument_group("how to run")
    how.add_argument("--out", type=expanded, metavar="DIR", help="run folder (default: runs/NAME-DIGEST)")
    how.add_argument("--plan", action="store_true", help="print what would run and exit; needs no weights")
    how.add_argument(
        "--calibrate",
        action="store_true",
        help="with --plan: load the weights, run seconds of the plan, and predict how long fit, CD and packs take",
    )
    how.add_argument(
        "--show-tokens", action="store_true", help="print one prompt a task with its named positions, and exit"
    )
    how.add_argument("--fresh", action="store_true", help="start over instead of resuming")
    how.add_argument("--engine", default="auto", type=_engine, metavar=f"{{{','.join(ENGINES)}}}", help="default: auto")
    how.add_argument(
        "--remote", nargs="?", const="", metavar="URL", help="run on NDIF (NDIF_API_KEY, NDIF_HOST), or on another host"
    )
    how.add_argument("--job-tokens", type=int, default=200_000, metavar="N", help="tokens a remote job (200000)")
    how.add_argument(
        "--patience", type=float, default=60.0, metavar="SECONDS", help="how long a host may be silent (60)"
    )
    how.add_argument("--vectors", action="store_true", help="bring fitted vectors home from a remote run")
    how.add_argument("--device", default="auto", choices=DEVICES, help="default: auto")
    how.add_argument(
        "--devices",
        type=int,
        metavar="N",
        help="share the run over N GPUs, or N processes of the CPU: a copy of the model each, or one over all N GPUs"
        " where it is too large for one",
    )
    add_figures_flag(how)
    how.add_argument(
        "--wandb",
        default="auto",
        choices=CHOICES,
        help="mirror the run to W&B; default: online with a key, else offline in the run folder (see docs/wandb.md)",
    )
    add_trust_flag(how)
    how.add_argument("--quiet", action="store_true", help="no progress, no table")
    how.add_argument("--json", action="store_true", help="print summary.json (or the plan) instead of a table")


def options_of_flags(args: argparse.Namespace, tick: Tick) -> Options:
    """How the flags say to run. Raises SpecError."""
    from patchboard.execution.options import Options

    remote = remote_of_flags(args)
    check_devices(args.devices, remote is not None, "--devices")
    return Options(args.out, args.fresh, args.engine, args.device, tick, remote, args.figures, args.devices)


def remote_of_flags(args: argparse.Namespace) -> Remote | None:
    """Where to run but here; None for here. Raises SpecError."""
    from patchboard.api.remote import remote_of

    def tell(line: str) -> None:
        if not args.quiet:
            print(line, file=sys.stderr, flush=True)

    return remote_of(args.remote, args.job_tokens, args.patience, args.vectors, tell)
