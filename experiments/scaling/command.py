"""The command line of scaling.py: finished runs to compare, or else a spec to run over several models."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from patchboard.cli.arguments import Parser
from patchboard.cli.guard import given, guarded
from patchboard.cli.run_flags import add_run_flags, parse_flags
from patchboard.errors import SpecError
from patchboard.experiment.command import StudyScript, first_line, print_findings
from patchboard.user_paths import expanded

_OF_FINISHED = ("places", "out", "fresh", "quiet", "json", "wandb", "figures")
"""What may be said where nothing is run (W&B: nothing is mirrored, so nothing is to be left out)."""


class ScalingScript(StudyScript):
    """A script whose experiment is a ``Scaling``."""

    def main(self, arguments: Sequence[str] | None = None) -> int:
        parser = Parser(description=first_line(self.about), allow_abbrev=False)
        what = "folders of finished runs, or a spec to run (default: the script's own)"
        parser.add_argument("places", nargs="*", metavar="RUN_DIR … | SPEC.yaml", help=what)
        add_run_flags(parser)

        def compare() -> int:
            args, rest = parse_flags(parser, given(arguments))
            # argparse takes only one stretch of the command line for places
            places = [expanded(each) for each in (*args.places, *rest) if not each.startswith("-")]
            if not any(each.is_dir() for each in places):
                return super(ScalingScript, self).main(arguments)
            _check(parser, args, places, [each for each in rest if each.startswith("-")])
            from patchboard.execution.options import Options
            from patchboard.experiments.scaling.experiment import Scaling

            experiment = self.experiment()
            assert isinstance(experiment, Scaling)
            options = Options(args.out, args.fresh, figures=args.figures)
            print_findings(experiment.compare(places, options), experiment.findings, args)
            return 0

        return guarded(compare, "the runs are as they were")


def _check(
    parser: argparse.ArgumentParser, args: argparse.Namespace, places: Sequence[Path], others: Sequence[str]
) -> None:
    """Raises SpecError for what has no meaning beside finished runs."""
    for each in places:
        if not each.is_dir():
            raise SpecError(str(each), "is no run folder, and others are given", "give finished runs, or one spec")
    set_by_user = [
        action.option_strings[0] for action in parser._actions
        if action.dest in vars(args) and action.dest not in _OF_FINISHED
        and getattr(args, action.dest) != action.default
    ]  # fmt: skip
    for flag in (*set_by_user, *others):
        raise SpecError(flag.partition("=")[0], "changes a run, and these are finished", "leave it out")
