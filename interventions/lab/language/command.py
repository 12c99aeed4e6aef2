"""The command line of the experiments on language models: a run of the library, and what is made of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interventions.arguments import Parser, overrides_apart, prepare_libraries
from interventions.lab.command import guarded
from interventions.spec import Study, load_study, parse_overrides


@dataclass(frozen=True)
class LanguageExperiment:
    """What a script gives.

    spec: its own YAML. prepared: the user's study -> the one to run; raises SpecError where it does not suit.
    examined: (study, finished run's folder, fresh, device, tick) -> the experiment's folder inside it. told: that
    folder's summary in sentences.
    """

    description: str
    spec: Path
    prepared: Callable[[Study], Study]
    examined: Callable[..., Path]
    told: Callable[[dict[str, Any]], Sequence[str]]


def language_script(experiment: LanguageExperiment, arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks; returns the exit status. Users' errors are one line each."""
    return guarded(lambda given: _act(experiment, given), arguments, "finished parts are kept")


def _act(experiment: LanguageExperiment, arguments: list[str]) -> int:
    parser = Parser(description=experiment.description, allow_abbrev=False, epilog="Any path of the spec: --a.b=VALUE.")
    parser.add_argument("spec", nargs="?", type=Path, default=experiment.spec, metavar="SPEC.yaml")
    parser.add_argument("--model", metavar="NAME_OR_FOLDER", help="model.name")
    parser.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/NAME-DIGEST)")
    parser.add_argument("--fresh", action="store_true", help="start over instead of resuming")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    parser.add_argument("--quiet", action="store_true", help="no progress, no findings")
    parser.add_argument("--json", action="store_true", help="print the experiment's summary.json")
    overrides, others = overrides_apart(arguments)
    args, rest = parser.parse_known_args(others)
    named = {} if args.model is None else {"model.name": args.model}
    study = experiment.prepared(load_study(args.spec, named | parse_overrides([*overrides, *rest])))
    prepare_libraries()
    from interventions.report.progress import progress
    from interventions.run import Options, run_study

    with progress(shown=not args.quiet and sys.stderr.isatty()) as tick:
        run = run_study(study, Options(out=args.out, fresh=args.fresh, device=args.device, tick=tick))
        folder = experiment.examined(study, run, args.fresh, args.device, tick)
    text = (folder / "summary.json").read_text(encoding="utf-8")
    if args.json:
        print(text, end="")
    elif not args.quiet:
        print("\n".join(experiment.told(json.loads(text))))
        print(f"report: {folder / 'report.html'}\nthe run's own: {run / 'report.html'}")
    return 0
