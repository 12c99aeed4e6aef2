"""What ``patchboard …`` and the scripts in experiments/ can do. torch is imported only to run."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interventions.arguments import Parser, overrides_apart, prepare_libraries
from interventions.errors import SpecError
from interventions.track.mode import CHOICES


def run_script(default_spec: Path, description: str, arguments: list[str]) -> int:
    """A script's command line: ``run`` with a spec of its own where none is given."""
    parser = Parser(description=description, allow_abbrev=False)
    parser.add_argument("spec", nargs="?", type=Path, default=default_spec, metavar="SPEC.yaml")
    _add_run_flags(parser)
    return _run(*_parsed(parser, arguments))


def dispatch(arguments: list[str]) -> int:
    """The ``patchboard`` command; returns the exit status. Raises PatchboardError."""
    parser = Parser(
        prog="patchboard", description="Causal interventions on language models from a YAML spec.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"patchboard {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    run = commands.add_parser("run", help="run a spec, resume it, or show its finished result", allow_abbrev=False)
    run.add_argument("spec", type=Path, metavar="SPEC.yaml")
    _add_run_flags(run)
    plan = commands.add_parser("plan", help="what a spec would run and cost; needs no weights", allow_abbrev=False)
    plan.add_argument("spec", type=Path, metavar="SPEC.yaml")
    _add_run_flags(plan)
    validate = commands.add_parser("validate", help="check specs", allow_abbrev=False)
    validate.add_argument("specs", nargs="+", type=Path, metavar="SPEC.yaml")
    commands.add_parser("ls", help="tasks, ops, vectors, controls, metrics, model families")
    commands.add_parser("schema", help="JSON Schema of a spec, for editors")
    report = commands.add_parser("report", help="draw a run's figures and page again")
    report.add_argument("folder", type=Path, metavar="RUN_DIR")
    track = commands.add_parser("track", help="mirror finished runs to W&B")
    track.add_argument("folders", nargs="+", type=Path, metavar="RUN_DIR")
    track.add_argument("--wandb", default="auto", choices=CHOICES[:-1], help="default: auto")
    _add_sweep_flags(commands.add_parser("sweep", help="run a W&B sweep file on this machine", allow_abbrev=False))
    known, rest = _parsed(parser, arguments)
    if known.command in ("run", "plan"):
        if known.command == "plan":
            known.plan = True
        return _run(known, rest)
    if rest:
        raise SpecError(rest[0], f"is no argument of `patchboard {known.command}`", "see --help")
    others = {
        "validate": _validate, "ls": _ls, "schema": _schema, "report": _report, "track": _track, "sweep": _sweep,
    }  # fmt: skip
    return others[known.command](known)


def _parsed(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """What the parser knows, and overrides of the spec."""
    overrides, others = overrides_apart(arguments)
    known, rest = parser.parse_known_args(_with_bare_remote(others))
    return known, [*overrides, *rest]


def _with_bare_remote(arguments: list[str]) -> list[str]:
    """`--remote SPEC.yaml` is a bare --remote and a spec: only a URL belongs to the flag."""
    following = zip(arguments, [*arguments[1:], ""], strict=False)
    return ["--remote=" if given == "--remote" and "://" not in after else given for given, after in following]


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    spec = parser.add_argument_group("shorthands for paths of the spec (any other: --a.b.c=VALUE)")
    spec.add_argument("--model", metavar="NAME_OR_FOLDER", help="model.name")
    spec.add_argument("--revision", metavar="R", help="model.revision")
    spec.add_argument("--dtype", metavar="DTYPE", help="model.dtype: auto, float32, bfloat16, float16")
    spec.add_argument("--layers", metavar="LAYERS", help="layers of every intervention of one edit: all, 3,5 or 0:80:4")
    how = parser.add_argument_group("how to run")
    how.add_argument("--out", type=Path, metavar="DIR", help="run folder (default: runs/NAME-DIGEST)")
    how.add_argument("--plan", action="store_true", help="print what would run and exit; needs no weights")
    how.add_argument(
        "--show-tokens", action="store_true", help="print one prompt a task with its named positions, and exit"
    )
    how.add_argument("--fresh", action="store_true", help="start over instead of resuming")
    how.add_argument("--engine", default="auto", choices=("auto", "wavefront", "packed", "rows"), help="default: auto")
    how.add_argument(
        "--remote", nargs="?", const="", metavar="URL", help="run on NDIF (NDIF_API_KEY, NDIF_HOST), or on another host"
    )
    how.add_argument("--job-tokens", type=int, default=200_000, metavar="N", help="tokens a remote job (200000)")
    how.add_argument(
        "--patience", type=float, default=60.0, metavar="SECONDS", help="how long a host may be silent (60)"
    )
    how.add_argument("--vectors", action="store_true", help="bring fitted vectors home from a remote run")
    how.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    how.add_argument(
        "--wandb",
        default="auto",
        choices=CHOICES,
        help="mirror the run to W&B; default: online with a key, else offline in the run folder (see docs/wandb.md)",
    )
    how.add_argument("--quiet", action="store_true", help="no progress, no table")
    how.add_argument("--json", action="store_true", help="print summary.json (or the plan) instead of a table")


def _add_sweep_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="SWEEP.yaml")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="points at a time (default: 1)")
    parser.add_argument("--count", type=int, metavar="N", help="points at most; random and bayes need one")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder (default: runs/sweep-NAME-DIGEST)")
    parser.add_argument(
        "--wandb", default="off", choices=CHOICES, help="mirror each point's run to W&B too (default: off)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, no table")
    parser.add_argument("--json", action="store_true", help="print sweep.json instead of a table")


def _study(args: argparse.Namespace, rest: list[str]) -> Any:
    from interventions.spec.load import load_study
    from interventions.spec.overrides import parse_overrides

    overrides = {
        path: value
        for path, value in (("model.name", args.model), ("model.revision", args.revision), ("model.dtype", args.dtype))
        if value is not None
    }
    overrides |= parse_overrides(rest)
    study = load_study(args.spec, overrides)
    if args.layers is None:
        return study
    from interventions.spec.layers import check_layers

    check_layers(args.layers, "--layers")
    chosen = {
        f"interventions.{name}.layers": {"together": args.layers} if _together(section["layers"]) else args.layers
        for name, section in study.tree["interventions"].items()
        if not section.get("edits")
    }
    if not chosen:
        raise SpecError("--layers", "reaches no intervention: all are lists of edits", "set layers in each edit")
    return load_study(args.spec, overrides | chosen)


def _together(layers: Any) -> bool:
    """Whether the spec edits the layers in one cell, at every value where they are swept."""
    values = layers["sweep"] if isinstance(layers, dict) and "sweep" in layers else [layers]
    return all(isinstance(value, dict) for value in values)


def _say_what_layers_left(study: Any, args: argparse.Namespace) -> None:
    """A line on interventions that ``--layers`` did not reach; behind the work, since errors stand alone."""
    left = [name for name, section in study.tree["interventions"].items() if section.get("edits")]
    if args.layers is not None and left and not args.quiet:
        text = f"note: --layers leaves {', '.join(left)} as in the spec: set layers in each of its edits"
        print(text, file=sys.stderr)


def _run(args: argparse.Namespace, rest: list[str]) -> int:
    from interventions.track.mode import wanted
    from interventions.track.session import mirrored

    if args.plan or args.show_tokens:
        study = _study(args, rest)
        prepare_libraries()
        return _show_plan(study, args)
    with mirrored(wanted(args.wandb, os.environ), args.quiet) as mirror:
        mirror.open_for_agent()
        study = _study(args, rest)
        folder = _run_study(study, args, mirror)
    _say_what_layers_left(study, args)
    if args.json:
        print((folder / "summary.json").read_text(encoding="utf-8"), end="")
    elif not args.quiet:
        from interventions.report.tables import print_run

        print_run(folder)
    return 0


def _run_study(study: Any, args: argparse.Namespace, mirror: Any) -> Path:
    """Run the study and mirror its folder. mirror: a ``track.session.Mirror``."""
    prepare_libraries()
    from interventions.check import check_study
    from interventions.report.progress import progress
    from interventions.run import folder_of, run_study
    from interventions.state import Options

    if mirror.may_open:
        check_study(study)
    mirror.begin(study, folder_of(study, args.out), args.fresh)
    with progress(shown=not args.quiet and sys.stderr.isatty()) as tick:
        options = Options(args.out, args.fresh, args.engine, args.device, tick, _remote(args))
        folder = run_study(study, options)
    mirror.finish(folder)
    return folder


def _remote(args: argparse.Namespace) -> Any:
    """Where to run but here; None for here. Raises SpecError."""
    from interventions.state import Remote

    for flag in ("job_tokens", "patience"):
        if getattr(args, flag) <= 0:
            raise SpecError(f"--{flag.replace('_', '-')}", f"{getattr(args, flag)} is not above 0", "give more")
    if args.remote is None:
        return None

    def tell(line: str) -> None:
        if not args.quiet:
            print(line, file=sys.stderr, flush=True)

    return Remote(args.remote, args.job_tokens, args.patience, args.vectors, tell)


def _show_plan(study: Any, args: argparse.Namespace) -> int:
    from interventions.measure.notes import capped
    from interventions.plan.cost import cost_of
    from interventions.plan.packs import Budget
    from interventions.report.tables import print_plan
    from interventions.run import plan_json, plan_study

    plans = plan_study(study)
    _say_what_layers_left(study, args)
    for note in () if args.quiet else capped(plans):
        print(f"note: {note}", file=sys.stderr)
    if args.show_tokens:
        return _show_tokens(plans)
    costs = [cost_of(plan, args.engine, Budget()) for plan in plans]
    found = plan_json(plans, costs)
    remote = _remote(args)
    if remote:
        from interventions.remote_cost import remote_cost

        for plan, entry in zip(plans, found["models"], strict=True):
            entry["remote"] = remote_cost(plan, args.engine, study.digest, remote).as_dict()
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        print_plan(study, found)
    return 0


def _show_tokens(plans: Sequence[Any]) -> int:
    from interventions.engine.load import open_model
    from tasks.prompts import show_tokens

    for plan in plans:
        tokenizer, _ = open_model(plan.section)
        for group in plan.groups:
            shown = next((p for p in group.prompts if not p.excluded), None)
            print(f"{group.task}, {group.shots} shots")
            print(show_tokens(shown, tokenizer) if shown else f"  excluded: {group.prompts[0].excluded}")
    return 0


def _validate(args: argparse.Namespace) -> int:
    from interventions.check import check_study
    from interventions.spec.load import load_study

    for path in args.specs:
        study = load_study(path)
        check_study(study)
        print(f"{path}: valid, {len(study.points)} point{'s' * (len(study.points) > 1)}, digest {study.digest[:8]}")
    return 0


def _ls(_: argparse.Namespace) -> int:
    import tasks.resolve  # noqa: F401  # enrols the families
    from interventions.engine.families import ARCHITECTURES
    from interventions.engine.sites import SITES
    from interventions.measure.metrics import METRICS
    from interventions.ops import OPS
    from interventions.plan.cells import CONTROLS
    from interventions.spec.positions import POSITIONS
    from tasks.base import FAMILIES

    def first_line(entry: Any) -> str:
        return " ".join((entry.__doc__ or "").split("\n\n")[0].split())

    listing = {
        "task families": {name: first_line(entry) for name, entry in FAMILIES.items()},
        "ops": {name: first_line(entry) for name, entry in OPS.items()},
        "vectors": {
            "mean": "mean state of fit prompts: same_task, other_task, null_task, all_tasks, or a task",
            "difference": "[a, b]: mean of a minus mean of b",
            "subspace": "where the tasks' states differ: method pca or leace, rank",
        },
        "controls": dict(zip(CONTROLS, (
            "the state patched with itself: the noise floor", "same norm (or rank), random direction",
            "another task's vector, scored against its answers too", "same rank, random directions"), strict=True)),
        "metrics": {name: f"{first_line(entry)} [{entry.unit}]" for name, entry in METRICS.items()},
        "sites": dict.fromkeys(SITES, ""),
        "positions": dict.fromkeys(POSITIONS, ""),
        "model families": dict.fromkeys(ARCHITECTURES, ""),
    }  # fmt: skip
    for kind, entries in listing.items():
        print(kind)
        for name, text in entries.items():
            print(f"  {name:<16} {text}".rstrip())
    return 0


def _schema(_: argparse.Namespace) -> int:
    from interventions.spec.json_schema import json_schema

    print(json.dumps(json_schema(), indent=1))
    return 0


def _report(args: argparse.Namespace) -> int:
    from interventions.errors import RunFolderError
    from interventions.report import write_report
    from interventions.store.folder import read_manifest

    if read_manifest(args.folder).get("status") != "finished":
        raise RunFolderError(str(args.folder), "is not the folder of a finished run", "run its spec first")
    print(write_report(args.folder))
    return 0


def _track(args: argparse.Namespace) -> int:
    from interventions.track.again import mirror
    from interventions.track.mode import wanted
    from interventions.track.session import say

    for folder in args.folders:
        print(mirror(folder, wanted(args.wandb, os.environ), say))
    return 0


def _sweep(args: argparse.Namespace) -> int:
    from interventions.report.progress import progress
    from interventions.sweep.file import load_sweep
    from interventions.sweep.run import Options, run_sweep

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
        from interventions.sweep.show import print_sweep

        print_sweep(folder)
    return status


def _version() -> str:
    from importlib.metadata import version

    return version("patchboard")
