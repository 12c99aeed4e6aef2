"""A run from the command line: plan it, or run it and print what came out. torch only to run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchboard.cli.arguments import Parser, prepare_libraries
from patchboard.cli.flags_study import say_what_layers_left, study_of_flags
from patchboard.cli.own_process import is_own
from patchboard.cli.run_flags import add_run_flags, options_of_flags, parse_flags, remote_of_flags
from patchboard.cli.show_plan import show_plan
from patchboard.errors import SpecError
from patchboard.plugin_files import any_in_use
from patchboard.undisturbed import undisturbed
from patchboard.user_paths import expanded

if TYPE_CHECKING:
    from patchboard.execution.options import Options
    from patchboard.spec import Study


def plan_of_flags(
    args: argparse.Namespace,
    overrides: Sequence[str],
    prepare: Callable[[Study], Study] | None = None,
    following: Callable[[Study], Sequence[Study]] = lambda study: (),
) -> bool:
    """Print what --plan or --show-tokens asks for; whether one of them was given, so that nothing is to be run.

    args, overrides: of ``parse_flags``. prepare: the user's study -> the one to run, where they are not the same.
    following: study -> those of the runs that are made after it, as far as they are known before. Raises
    PatchboardError.
    """
    if not (args.plan or args.show_tokens):
        if args.calibrate:
            raise SpecError("--calibrate", "is part of a plan, and a run is asked for", "write --plan --calibrate")
        return False
    from patchboard.engine.trust import trust_code

    trust_code(args.trust_remote_code)
    with undisturbed():
        study = study_of_flags(args, overrides)
        if prepare is not None:
            study = prepare(study)
        elif _plans_alone(study, args):
            from patchboard.engine.without_torch import import_transformers_alone

            import_transformers_alone()
        prepare_libraries()
        show_plan(study, args, following)
    return True


def _plans_alone(study: Study, args: argparse.Namespace) -> bool:
    """Whether this process will end without having needed torch."""
    from patchboard.engine.without_torch import needs_torch

    if not is_own() or args.calibrate or args.remote is not None or any_in_use():
        return False
    return not any(needs_torch(point.spec.model) for point in study.points)


@contextmanager
def run_of_study(
    args: argparse.Namespace, overrides: Sequence[str], prepare: Callable[[Study], Study] = lambda study: study
) -> Iterator[tuple[Study, Path, Options]]:
    """Run what the flags ask for, and mirror it; gives the study, its finished folder, and how it was run.

    args, overrides, prepare: as of ``plan_of_flags``. Progress is shown until the context is left, so that what is made
    of the run can show its own. Raises PatchboardError.
    """
    from patchboard.engine.trust import trust_code
    from patchboard.track.mode import wanted
    from patchboard.track.session import mirrored

    trust_code(args.trust_remote_code)
    with mirrored(wanted(args.wandb, os.environ), args.quiet) as mirror:
        mirror.open_for_agent()
        study = study_of_flags(args, overrides)
        _check_key(study, args)
        study = prepare(study)
        prepare_libraries()
        from patchboard.api.run import run_mirrored
        from patchboard.report.progress import progress

        with progress(shown=not args.quiet and sys.stderr.isatty()) as tick:
            options = options_of_flags(args, tick)
            yield study, run_mirrored(study, options, mirror), options
    say_what_layers_left(study, args)


def _check_key(study: Any, args: argparse.Namespace) -> None:
    """What a remote run needs to have at home, before models are looked up. Raises SpecError."""
    remote = remote_of_flags(args)
    if remote is None:
        return
    prepare_libraries()
    from patchboard.engine.ndif.preflight import host_of
    from patchboard.execution.planned import folder_of
    from patchboard.store.folder import is_finished

    if args.fresh or not is_finished(folder_of(study, args.out)):
        host_of(remote.url, remote.patience)


def run_script(default_spec: Path, description: str, arguments: list[str]) -> int:
    """A script's command line: ``run`` with a spec of its own where none is given."""
    parser = Parser(description=description, allow_abbrev=False)
    parser.add_argument("spec", nargs="?", type=expanded, default=default_spec, metavar="SPEC.yaml")
    add_run_flags(parser)
    return run_of_flags(*parse_flags(parser, arguments))


def run_of_flags(args: argparse.Namespace, rest: list[str]) -> int:
    if plan_of_flags(args, rest):
        return 0
    with run_of_study(args, rest) as (_, folder, _):
        pass
    if args.json:
        print((folder / "summary.json").read_text(encoding="utf-8"), end="")
    elif not args.quiet:
        from patchboard.report.tables import print_run

        print_run(folder)
    return 0
