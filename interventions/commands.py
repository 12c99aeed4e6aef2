"""What ``patchboard …`` and the scripts in experiments/ can do. torch is imported only to run."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interventions.errors import SpecError


class _Parser(argparse.ArgumentParser):
    """argparse's own complaints in our form: one line, exit status 2."""

    def error(self, message: str) -> Any:
        raise SpecError("command line", message, f"see {self.prog} --help")


def run_script(default_spec: Path, description: str, arguments: list[str]) -> int:
    """A script's command line: ``run`` with a spec of its own where none is given."""
    parser = _Parser(description=description, allow_abbrev=False)
    parser.add_argument("spec", nargs="?", type=Path, default=default_spec, metavar="SPEC.yaml")
    _add_run_flags(parser)
    return _run(*parser.parse_known_args(arguments))


def dispatch(arguments: list[str]) -> int:
    """The ``patchboard`` command; returns the exit status. Raises PatchboardError."""
    parser = _Parser(
        prog="patchboard", description="Causal interventions on language models from a YAML spec.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"patchboard {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
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
    known, rest = parser.parse_known_args(arguments)
    if known.command in ("run", "plan"):
        if known.command == "plan":
            known.plan = True
        return _run(known, rest)
    if rest:
        raise SpecError(rest[0], f"is no argument of `patchboard {known.command}`", "see --help")
    return {"validate": _validate, "ls": _ls, "schema": _schema, "report": _report}[known.command](known)


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
    how.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    how.add_argument("--quiet", action="store_true", help="no progress, no table")
    how.add_argument("--json", action="store_true", help="print summary.json (or the plan) instead of a table")


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
    study = _study(args, rest)
    _prepare_libraries()
    if args.plan or args.show_tokens:
        return _show_plan(study, args)
    from interventions.report.progress import progress
    from interventions.run import Options, run_study

    with progress(shown=not args.quiet and sys.stderr.isatty()) as tick:
        options = Options(out=args.out, fresh=args.fresh, engine=args.engine, device=args.device, tick=tick)
        folder = run_study(study, options)
    _say_what_layers_left(study, args)
    if args.json:
        print((folder / "summary.json").read_text(encoding="utf-8"), end="")
    elif not args.quiet:
        from interventions.report.tables import print_run

        print_run(folder)
    return 0


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


def _version() -> str:
    from importlib.metadata import version

    return version("patchboard")


def _prepare_libraries() -> None:
    """What must be set before torch is imported; and loading bars off, which are for people who load by hand."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # idle OpenMP threads sleep: where they spin on a core that others use too, a run takes twice as long
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
