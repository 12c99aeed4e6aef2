"""The command line of the experiments on language models: a run of the library, and what is made of it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interventions.errors import PatchboardError, SpecError
from interventions.spec import Study, load_study, parse_overrides

EXIT_INTERRUPTED = 130
EXAMINED = "experiment"
"""Folder inside the run's own in which an experiment keeps what it made of the run."""


@dataclass(frozen=True)
class LanguageExperiment:
    """What a script gives.

    spec: its own YAML. prepared: the user's study -> the one to run; raises SpecError where it does not suit.
    run: (study, out, fresh, device, tick) -> the finished run's folder. examined: (study, run's folder, fresh, device,
    tick) -> the experiment's folder inside it. told: that folder's summary in sentences.
    """

    description: str
    spec: Path
    prepared: Callable[[Study], Study]
    run: Callable[..., Path]
    examined: Callable[..., Path]
    told: Callable[[dict[str, Any]], Sequence[str]]


def language_script(experiment: LanguageExperiment, arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks; returns the exit status. Users' errors are one line each."""
    try:
        return _act(experiment, list(sys.argv[1:] if arguments is None else arguments))
    except PatchboardError as error:
        print(f"error: {error.one_line()}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("interrupted: finished parts are kept, the same command resumes", file=sys.stderr)
        return EXIT_INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """argparse's own complaints in our form: one line, exit status 2."""

    def error(self, message: str) -> Any:
        raise SpecError("command line", message, f"see {self.prog} --help")


def _act(experiment: LanguageExperiment, arguments: list[str]) -> int:
    parser = _Parser(
        description=experiment.description, allow_abbrev=False, epilog="Any path of the spec: --a.b=VALUE."
    )
    parser.add_argument("spec", nargs="?", type=Path, default=experiment.spec, metavar="SPEC.yaml")
    parser.add_argument("--model", metavar="NAME_OR_FOLDER", help="model.name")
    parser.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/NAME-DIGEST)")
    parser.add_argument("--fresh", action="store_true", help="start over instead of resuming")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    parser.add_argument("--quiet", action="store_true", help="no progress, no findings")
    parser.add_argument("--json", action="store_true", help="print the experiment's summary.json")
    # kept from argparse: an override whose value has a space in it would be taken for SPEC.yaml
    overrides = [each for each in arguments if each.startswith("--") and "." in each.split("=")[0] and "=" in each]
    args, rest = parser.parse_known_args([each for each in arguments if each not in overrides])
    named = {} if args.model is None else {"model.name": args.model}
    study = experiment.prepared(load_study(args.spec, named | parse_overrides([*overrides, *rest])))
    _quiet_libraries()
    from interventions.report.progress import progress

    with progress(shown=not args.quiet and sys.stderr.isatty()) as tick:
        run = experiment.run(study, args.out, args.fresh, args.device, tick)
        folder = experiment.examined(study, run, args.fresh, args.device, tick)
    text = (folder / "summary.json").read_text(encoding="utf-8")
    if args.json:
        print(text, end="")
    elif not args.quiet:
        print("\n".join(experiment.told(json.loads(text))))
        print(f"report: {folder / 'report.html'}\nthe run's own: {run / 'report.html'}")
    return 0


def _quiet_libraries() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads sleep: spinning costs whoever shares the core
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
