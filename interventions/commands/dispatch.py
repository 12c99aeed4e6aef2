"""What ``patchboard …`` and the scripts in experiments/ can do. torch is imported only to run."""

from __future__ import annotations

import argparse
import json
import os
import sys

from patchboard.cli.arguments import Parser
from patchboard.cli.running import add_run_flags, parsed, run_of_flags
from patchboard.emit.command import add_flags as add_emit_flags
from patchboard.errors import PatchboardError, SpecError
from patchboard.track.mode import CHOICES
from patchboard.user_paths import expanded


def dispatch(arguments: list[str]) -> int:
    """The ``patchboard`` command; returns the exit status. Raises PatchboardError."""
    parser = Parser(
        prog="patchboard", description="Causal interventions on language models from a YAML spec.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"patchboard {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    run = commands.add_parser("run", help="run a spec, resume it, or show its finished result", allow_abbrev=False)
    run.add_argument("spec", type=expanded, metavar="SPEC.yaml")
    add_run_flags(run)
    plan = commands.add_parser("plan", help="what a spec would run and cost; needs no weights", allow_abbrev=False)
    plan.add_argument("spec", type=expanded, metavar="SPEC.yaml")
    add_run_flags(plan)
    validate = commands.add_parser("validate", help="check specs, experiments' settings and sweeps", allow_abbrev=False)
    validate.add_argument("specs", nargs="+", type=expanded, metavar="FILE.yaml")
    commands.add_parser("ls", help="tasks, ops, vectors, controls, metrics, model families")
    commands.add_parser("schema", help="JSON Schema of a spec, for editors")
    report = commands.add_parser("report", help="draw a run's figures and page again")
    report.add_argument("folder", type=expanded, metavar="RUN_DIR")
    track = commands.add_parser("track", help="mirror finished runs to W&B")
    track.add_argument("folders", nargs="+", type=expanded, metavar="RUN_DIR")
    track.add_argument("--wandb", default="auto", choices=CHOICES[:-1], help="default: auto")
    _add_sweep_flags(commands.add_parser("sweep", help="run a W&B sweep file on this machine", allow_abbrev=False))
    init = commands.add_parser("init", help="write a commented spec to start from; without a name, list them")
    init.add_argument("recipe", nargs="?", metavar="RECIPE")
    init.add_argument("--out", type=expanded, metavar="FILE.yaml", help="where to (default: RECIPE.yaml)")
    add_emit_flags(
        commands.add_parser("emit", help="write a plain nnsight script that recomputes cells", allow_abbrev=False)
    )
    known, rest = parsed(parser, arguments)
    if known.command in ("run", "plan"):
        if known.command == "plan":
            known.plan = True
        return run_of_flags(known, rest)
    if known.command == "emit":
        return _emit(known, rest)
    if rest:
        raise SpecError(rest[0], f"is no argument of `patchboard {known.command}`", "see --help")
    others = {
        "validate": _validate, "ls": _ls, "schema": _schema, "report": _report, "track": _track, "sweep": _sweep,
        "init": _init,
    }  # fmt: skip
    return others[known.command](known)


def _add_sweep_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=expanded, metavar="SWEEP.yaml")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="points at a time (default: 1)")
    parser.add_argument("--count", type=int, metavar="N", help="points at most; random and bayes need one")
    parser.add_argument("--out", type=expanded, metavar="DIR", help="folder (default: runs/sweep-NAME-DIGEST)")
    parser.add_argument(
        "--wandb", default="off", choices=CHOICES, help="mirror each point's run to W&B too (default: off)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, no table")
    parser.add_argument("--json", action="store_true", help="print sweep.json instead of a table")


def _validate(args: argparse.Namespace) -> int:
    from patchboard.commands.validate import validated

    status = 0
    for path in args.specs:
        try:
            print(f"{path}: {validated(path)}")
        except PatchboardError as error:
            line, status = error.one_line(), error.exit_status
            named = len(args.specs) == 1 or line.startswith(str(path))  # of several files a line says which
            print(f"error: {line if named else f'{path}: {line}'}", file=sys.stderr)
    return status


def _ls(_: argparse.Namespace) -> int:
    from patchboard.commands.ls import print_listing

    print_listing()
    return 0


def _schema(_: argparse.Namespace) -> int:
    from patchboard.spec.json_schema import json_schema

    print(json.dumps(json_schema(), indent=1))
    return 0


def _report(args: argparse.Namespace) -> int:
    from patchboard.errors import RunFolderError
    from patchboard.report import write_report
    from patchboard.store.folder import read_manifest

    if read_manifest(args.folder).get("status") != "finished":
        raise RunFolderError(str(args.folder), "is not the folder of a finished run", "run its spec first")
    print(write_report(args.folder))
    return 0


def _track(args: argparse.Namespace) -> int:
    from patchboard.track.finished import mirror
    from patchboard.track.mode import wanted
    from patchboard.track.session import say

    for folder in args.folders:
        print(mirror(folder, wanted(args.wandb, os.environ), say))
    return 0


def _sweep(args: argparse.Namespace) -> int:
    from patchboard.report.progress import progress
    from patchboard.sweep.file import load_sweep
    from patchboard.sweep.run import Options, run_sweep

    for flag, value in (("--jobs", args.jobs), ("--count", args.count)):
        if value is not None and value < 1:
            raise SpecError(flag, f"found {value}, expected a whole number ≥ 1", "give how many")

    def failed(line: str) -> None:
        print(f"point {line}", file=sys.stderr)

    sweep = load_sweep(args.file)
    with progress(shown=not args.quiet and sys.stderr.isatty()) as tick:
        options = Options(
            args.jobs, args.count, args.out, args.wandb, lambda done, of: tick("points", done, of), failed
        )  # fmt: skip
        folder, status = run_sweep(sweep, options)
    if args.json:
        print((folder / "sweep.json").read_text(encoding="utf-8"), end="")
    elif not args.quiet:
        from patchboard.sweep.show import print_sweep

        print_sweep(folder)
    return status


def _init(args: argparse.Namespace) -> int:
    from patchboard.recipes import listing, written

    print(listing() if args.recipe is None and args.out is None else written(args.recipe, args.out))
    return 0


def _emit(args: argparse.Namespace, rest: list[str]) -> int:
    from patchboard.emit.command import emitted

    print(emitted(args, rest))
    return 0


def _version() -> str:
    from importlib.metadata import version

    return version("patchboard")
