"""The command line of the experiments on language models: a run of the library, and what is made of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchboard.cli.arguments import Parser
from patchboard.cli.run_flags import add_run_flags, parse_flags
from patchboard.cli.run_or_plan import run_or_plan
from patchboard.errors import SpecError
from patchboard.lab.command import guarded, tell
from patchboard.spec import Study
from patchboard.user_paths import expanded


@dataclass(frozen=True)
class LanguageExperiment:
    """What a script gives.

    spec: its own YAML. prepared: the user's study -> the one to run; raises SpecError where it does not suit.
    examined: (study, finished run's folder, Options) -> the experiment's folder inside it. told: that folder's
    summary in sentences. flags: adds the script's own flags; their values are keyword arguments of ``prepared``,
    ``examined`` and ``following``. not_remote: why the script cannot take --remote, empty where it can.
    following: study -> those of the runs that ``examined`` makes, as far as they are known, for --plan.
    """

    description: str
    spec: Path
    prepared: Callable[..., Study]
    examined: Callable[..., Path]
    told: Callable[[dict[str, Any]], Sequence[str]]
    flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    not_remote: str = ""
    following: Callable[..., Sequence[Study]] = lambda study, **own: ()


def language_script(experiment: LanguageExperiment, arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks; returns the exit status. Users' errors are one line each."""
    return guarded(lambda given: _act(experiment, given), arguments, "finished parts are kept")


def _act(experiment: LanguageExperiment, arguments: list[str]) -> int:
    parser = Parser(description=experiment.description, allow_abbrev=False)
    parser.add_argument("spec", nargs="?", type=expanded, default=experiment.spec, metavar="SPEC.yaml")
    add_run_flags(parser)
    common = {action.dest for action in parser._actions}
    experiment.flags(parser)
    args, overrides = parse_flags(parser, arguments)
    if args.remote is not None and experiment.not_remote:
        raise SpecError("--remote", f"cannot be: {experiment.not_remote}", "run it here")
    own = {name: value for name, value in vars(args).items() if name not in common}
    folder = run_or_plan(
        args, overrides,
        lambda study: experiment.prepared(study, **own),
        lambda study, run, options: experiment.examined(study, run, options, **own),
        lambda study: experiment.following(study, **own),
    )  # fmt: skip
    if folder is None:
        return 0
    tell(folder, experiment.told, args)
    if not (args.json or args.quiet):
        print(f"the run's own: {folder.parent / 'report.html'}")
    return 0
