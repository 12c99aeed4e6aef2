"""The command line that the laboratory's scripts share. torch is imported only to run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchboard.cli.arguments import Parser, add_plugins_flag, add_trust_flag
from patchboard.engine.trust import trust_code
from patchboard.errors import PatchboardError, SpecError
from patchboard.experiment.settings import ExperimentSettings, load_settings
from patchboard.plugin_files import use_in_process
from patchboard.spec.fields import kinds_at
from patchboard.user_paths import expanded

EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Experiment:
    """What a script gives.

    settings: the YAML's class. small, full: its files. plan: settings -> what would run, as plain data.
    run: (settings, out, fresh, device, tick) -> the finished folder. told: a finished folder's summary in sentences.
    """

    description: str
    settings: type[ExperimentSettings]
    small: Path
    full: Path
    plan: Callable[[Any], dict[str, Any]]
    run: Callable[..., Path]
    told: Callable[[dict[str, Any]], Sequence[str]]


def lab_script(experiment: Experiment, arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks; returns the exit status. Users' errors are one line each."""
    return guarded(lambda given: _act(experiment, given), arguments, "the last checkpoint is kept")


def guarded(act: Callable[[list[str]], int], arguments: Sequence[str] | None, kept: str) -> int:
    """The status of ``act``; users' errors and Ctrl-C become one line and theirs. kept: what outlasts an interrupt."""
    try:
        return act(list(sys.argv[1:] if arguments is None else arguments))
    except PatchboardError as error:
        print(f"error: {error.one_line()}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(f"interrupted: {kept}, the same command resumes", file=sys.stderr)
        return EXIT_INTERRUPTED


def _act(experiment: Experiment, arguments: list[str]) -> int:
    parser = Parser(
        description=experiment.description, allow_abbrev=False, epilog="Any field of the YAML: --a.b=VALUE."
    )
    parser.add_argument("spec", nargs="?", type=expanded, metavar="SPEC.yaml", help="default: the script's own")
    named = kinds_at(experiment.settings, ("model", "name"))  # not every experiment's model has a name
    if named:
        parser.add_argument("--model", metavar="NAME_OR_FOLDER", help="model.name")
    parser.add_argument("--full", action="store_true", help="the paper's size: the script's other YAML")
    parser.add_argument("--out", type=expanded, metavar="DIR", help="folder (default: runs/NAME-DIGEST)")
    parser.add_argument("--plan", action="store_true", help="print what would run and exit")
    parser.add_argument("--fresh", action="store_true", help="start over instead of resuming")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    add_plugins_flag(parser)
    add_trust_flag(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress, no findings")
    parser.add_argument("--json", action="store_true", help="print summary.json (or the plan)")
    flags = {flag for action in parser._actions for flag in action.option_strings}
    # not parse_known_args: argparse takes an unknown flag whose value has a space in it for a positional argument
    overrides = [each for each in arguments if each.startswith("--") and each.partition("=")[0] not in flags]
    args = parser.parse_args([each for each in arguments if each not in overrides])
    if args.full and args.spec:
        raise SpecError("--full", f"is the script's own YAML, and {args.spec} is given too", "keep one")
    if named and args.model is not None:
        overrides.append(f"--model.name={json.dumps(args.model)}")  # quoted: a name of digits is no number
    file = args.spec or (experiment.full if args.full else experiment.small)
    use_in_process(args.plugins)
    settings = load_settings(experiment.settings, file, overrides)
    trust_code(args.trust_remote_code)
    if args.plan:
        plan = experiment.plan(settings)
        print(json.dumps(plan, indent=1) if args.json else "\n".join(f"{k}: {v}" for k, v in plan.items()))
        return 0
    from patchboard.report.progress import progress

    with progress(shown=not args.quiet and sys.stderr.isatty()) as tick:
        folder = experiment.run(settings, args.out, args.fresh, args.device, tick)
    tell(folder, experiment.told, args)
    return 0


def tell(folder: Path, told: Callable[[dict[str, Any]], Sequence[str]], args: argparse.Namespace) -> None:
    """Print a finished experiment's findings and where its page is, or what --json and --quiet ask for instead."""
    text = (folder / "summary.json").read_text(encoding="utf-8")
    if args.json:
        print(text, end="")
    elif not args.quiet:
        print("\n".join(told(json.loads(text))))
        print(f"report: {folder / 'report.html'}")
