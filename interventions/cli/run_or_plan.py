"""A run from the command line: plan it, or run it and print what came out. torch only to run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from patchboard.cli.arguments import Parser, prepare_libraries
from patchboard.cli.flags_study import say_what_layers_left, study_of_flags
from patchboard.cli.run_flags import add_run_flags, parse_flags, remote_of_flags
from patchboard.cli.show_plan import show_plan
from patchboard.user_paths import expanded


def run_or_plan(
    args: argparse.Namespace,
    overrides: Sequence[str],
    prepared: Callable[[Any], Any] = lambda study: study,
    examined: Callable[[Any, Path, Any], Path] = lambda study, run, options: run,
    following: Callable[[Any], Sequence[Any]] = lambda study: (),
) -> Path | None:
    """Run what the flags ask for; the folder that ``examined`` gives, or None where --plan or --show-tokens was enough.

    args, overrides: of ``parse_flags``. prepared: the user's study -> the one to run. examined: (study, finished run's
    folder, Options) -> the folder that matters. following: study -> those of the runs that ``examined`` makes, as far
    as they are known before, for --plan. Raises PatchboardError.
    """
    from patchboard.engine.trust import trust_code
    from patchboard.track.mode import wanted
    from patchboard.track.session import mirrored

    trust_code(args.trust_remote_code)
    if args.plan or args.show_tokens:
        study = prepared(study_of_flags(args, overrides))
        prepare_libraries()
        show_plan(study, args, following)
        return None
    with mirrored(wanted(args.wandb, os.environ), args.quiet) as mirror:
        mirror.open_for_agent()
        study = study_of_flags(args, overrides)
        _check_key(study, args)
        study = prepared(study)
        folder = _run_study(study, args, mirror, examined)
    say_what_layers_left(study, args)
    return folder


def _check_key(study: Any, args: argparse.Namespace) -> None:
    """What a remote run needs to have at home, before models are looked up. Raises SpecError."""
    remote = remote_of_flags(args)
    if remote is None:
        return
    prepare_libraries()
    from patchboard.engine.ndif.preflight import host_of
    from patchboard.execution.run import folder_of
    from patchboard.store.folder import is_finished

    if args.fresh or not is_finished(folder_of(study, args.out)):
        host_of(remote.url, remote.patience)


def _run_study(study: Any, args: argparse.Namespace, mirror: Any, examined: Callable[..., Path]) -> Path:
    """Run the study, mirror its folder, examine it. mirror: a ``track.session.Mirror``."""
    prepare_libraries()
    from patchboard.execution.options import Options
    from patchboard.execution.run import folder_of, run_study
    from patchboard.plan.validate import check_study
    from patchboard.report.progress import progress

    if mirror.may_open:
        check_study(study)
    mirror.begin(study, folder_of(study, args.out), args.fresh)
    with progress(shown=not args.quiet and sys.stderr.isatty()) as tick:
        options = Options(args.out, args.fresh, args.engine, args.device, tick, remote_of_flags(args))
        folder = run_study(study, options)
        mirror.finish(folder)
        return examined(study, folder, options)


def run_script(default_spec: Path, description: str, arguments: list[str]) -> int:
    """A script's command line: ``run`` with a spec of its own where none is given."""
    parser = Parser(description=description, allow_abbrev=False)
    parser.add_argument("spec", nargs="?", type=expanded, default=default_spec, metavar="SPEC.yaml")
    add_run_flags(parser)
    return run_of_flags(*parse_flags(parser, arguments))


def run_of_flags(args: argparse.Namespace, rest: list[str]) -> int:
    folder = run_or_plan(args, rest)
    if folder is None:
        return 0
    if args.json:
        print((folder / "summary.json").read_text(encoding="utf-8"), end="")
    elif not args.quiet:
        from patchboard.report.tables import print_run

        print_run(folder)
    return 0
