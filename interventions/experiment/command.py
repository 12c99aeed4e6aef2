"""The command lines of experiments: of those that make something of a run, and of those that train."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchboard.cli.arguments import Parser, add_figures_flag, add_plugins_flag, add_trust_flag, prepare_libraries
from patchboard.cli.guard import given, guarded
from patchboard.cli.run_flags import add_run_flags, parse_flags
from patchboard.cli.run_or_plan import plan_of_flags, run_of_study
from patchboard.errors import SpecError
from patchboard.experiment.settings import ExperimentSettings, load_settings
from patchboard.plugin_files import use_in_process
from patchboard.spec.fields import kinds_at
from patchboard.user_paths import expanded

if TYPE_CHECKING:  # torch takes seconds to load, which a refusal of the command line need not wait for
    from patchboard.experiment.frame import StudyExperiment, TrainingExperiment
    from patchboard.spec import Study


@dataclass(frozen=True)
class StudyScript:
    """A script that makes something of a run. about: its docstring, of which the first line is --help's.

    spec: its own YAML. experiment: loads the experiment, with the values of the script's own flags as keyword
    arguments. add_flags: adds these. not_remote: why it cannot take --remote, empty where it can.
    """

    about: str | None
    spec: Path
    experiment: Callable[..., StudyExperiment]
    add_flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    not_remote: str = ""

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Do what the command line asks; returns the exit status. Users' errors are one line each."""
        return guarded(lambda: self._act(given(arguments)))

    def _act(self, arguments: list[str]) -> int:
        parser = Parser(description=first_line(self.about), allow_abbrev=False)
        parser.add_argument("spec", nargs="?", type=expanded, default=self.spec, metavar="SPEC.yaml")
        add_run_flags(parser)
        common = {action.dest for action in parser._actions}
        self.add_flags(parser)
        args, overrides = parse_flags(parser, arguments)
        if args.remote is not None and self.not_remote:
            raise SpecError("--remote", f"cannot be: {self.not_remote}", "run it here")
        own = {name: value for name, value in vars(args).items() if name not in common}

        def prepare(study: Study) -> Study:
            return self.experiment(**own).prepare(study)

        if plan_of_flags(args, overrides, prepare, lambda study: self.experiment(**own).following(study)):
            return 0
        with run_of_study(args, overrides, prepare) as (study, path, options):
            from patchboard.experiment.frame import FinishedRun
            from patchboard.store.folder import RunFolder

            experiment = self.experiment(**own)
            folder = experiment.examine(FinishedRun(study, RunFolder(path, study.digest)), options)
        print_findings(folder, experiment.findings, args)
        if not (args.json or args.quiet):
            print(f"the run's own: {folder.parent / 'report.html'}")
        return 0


@dataclass(frozen=True)
class TrainingScript:
    """A script that trains models of its own. about: as of StudyScript.

    settings: the YAML's class. small, full: its files. experiment: loads the experiment.
    """

    about: str | None
    settings: type[ExperimentSettings]
    small: Path
    full: Path
    experiment: Callable[[], TrainingExperiment[Any, Any]]

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Do what the command line asks; returns the exit status. Users' errors are one line each."""
        return guarded(lambda: self._act(given(arguments)), "the last checkpoint is kept")

    def _act(self, arguments: list[str]) -> int:
        parser = Parser(
            description=first_line(self.about), allow_abbrev=False, epilog="Any field of the YAML: --a.b=VALUE."
        )
        parser.add_argument("spec", nargs="?", type=expanded, metavar="SPEC.yaml", help="default: the script's own")
        has_model_name = kinds_at(self.settings, ("model", "name"))
        if has_model_name:
            parser.add_argument("--model", metavar="NAME_OR_FOLDER", help="model.name")
        parser.add_argument("--full", action="store_true", help="the paper's size: the script's other YAML")
        parser.add_argument("--out", type=expanded, metavar="DIR", help="folder (default: runs/NAME-DIGEST)")
        parser.add_argument("--plan", action="store_true", help="print what would run and exit")
        parser.add_argument("--fresh", action="store_true", help="start over instead of resuming")
        parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
        add_figures_flag(parser)
        add_plugins_flag(parser)
        add_trust_flag(parser)
        parser.add_argument("--quiet", action="store_true", help="no progress, no findings")
        parser.add_argument("--json", action="store_true", help="print summary.json (or the plan)")
        args, overrides = parse_flags(parser, arguments)
        if args.full and args.spec:
            raise SpecError("--full", f"is the script's own YAML, and {args.spec} is given too", "keep one")
        if has_model_name and args.model is not None:
            overrides.append(f"--model.name={json.dumps(args.model)}")  # quoted: a name of digits is no number
        use_in_process(args.plugins)
        settings = load_settings(self.settings, args.spec or (self.full if args.full else self.small), overrides)
        from patchboard.engine.trust import trust_code

        trust_code(args.trust_remote_code)
        if args.plan:
            plan = self.experiment().plan(settings)
            print(json.dumps(plan, indent=1) if args.json else "\n".join(f"{k}: {v}" for k, v in plan.items()))
            return 0
        prepare_libraries()
        from patchboard.execution.options import Options
        from patchboard.report.progress import progress

        experiment = self.experiment()
        with progress(shown=not args.quiet and sys.stderr.isatty()) as tick:
            options = Options(args.out, args.fresh, device=args.device, tick=tick, figures=args.figures)
            folder = experiment.run(settings, options)
        print_findings(folder, experiment.findings, args)
        return 0


def first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]


def print_findings(folder: Path, findings: Callable[[dict[str, Any]], Sequence[str]], args: argparse.Namespace) -> None:
    """Print a finished experiment's findings and where its page is, or what --json and --quiet ask for instead."""
    text = (folder / "summary.json").read_text(encoding="utf-8")
    if args.json:
        print(text, end="")
    elif not args.quiet:
        print("\n".join(findings(json.loads(text))))
        print(f"report: {folder / 'report.html'}")
