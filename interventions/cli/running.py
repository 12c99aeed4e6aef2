"""The command line of a run: its flags, the study that they ask for, its plan or its run. torch only to run."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from patchboard.cli.arguments import Parser, add_trust_flag, overrides_apart, prepare_libraries, with_negative_values
from patchboard.errors import SpecError
from patchboard.track.mode import CHOICES
from patchboard.user_paths import expanded


def run_or_plan(
    args: argparse.Namespace,
    overrides: Sequence[str],
    prepared: Callable[[Any], Any] = lambda study: study,
    examined: Callable[[Any, Path, Any], Path] = lambda study, run, options: run,
    following: Callable[[Any], Sequence[Any]] = lambda study: (),
) -> Path | None:
    """Run what the flags ask for; the folder that ``examined`` gives, or None where --plan or --show-tokens was enough.

    args, overrides: of ``parsed``. prepared: the user's study -> the one to run. examined: (study, finished run's
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
        _show_plan(study, args, following)
        return None
    with mirrored(wanted(args.wandb, os.environ), args.quiet) as mirror:
        mirror.open_for_agent()
        study = study_of_flags(args, overrides)
        _check_key(study, args)
        study = prepared(study)
        folder = _run_study(study, args, mirror, examined)
    _say_what_layers_left(study, args)
    return folder


def parsed(parser: argparse.ArgumentParser, arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """What the parser knows, and overrides of the spec."""
    overrides, others = overrides_apart(parser, with_negative_values(parser, arguments))
    known, rest = parser.parse_known_args(_with_bare_remote(others))
    return known, [*overrides, *rest]


def _with_bare_remote(arguments: list[str]) -> list[str]:
    """`--remote SPEC.yaml` is a bare --remote and a spec: only a URL belongs to the flag."""
    following = zip(arguments, [*arguments[1:], ""], strict=False)
    return ["--remote=" if given == "--remote" and "://" not in after else given for given, after in following]


_LAYERS = "layers of every intervention of one edit, as the spec has them: all, 3,5, [3, 5], 0:80:4, {onwards: all}"


def add_spec_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that stand for paths of the spec."""
    spec = parser.add_argument_group("shorthands for paths of the spec (any other: --a.b.c=VALUE)")
    spec.add_argument("--model", metavar="NAME_OR_FOLDER", help="model.name")
    spec.add_argument("--revision", metavar="R", help="model.revision")
    spec.add_argument("--dtype", metavar="DTYPE", help="model.dtype: auto, float32, bfloat16, float16")
    spec.add_argument("--layers", metavar="LAYERS", help=_LAYERS)


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of every script that runs a spec."""
    add_spec_flags(parser)
    how = parser.add_argument_group("how to run")
    how.add_argument("--out", type=expanded, metavar="DIR", help="run folder (default: runs/NAME-DIGEST)")
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
    add_trust_flag(how)
    how.add_argument("--quiet", action="store_true", help="no progress, no table")
    how.add_argument("--json", action="store_true", help="print summary.json (or the plan) instead of a table")


def study_of_flags(args: argparse.Namespace, rest: Sequence[str]) -> Any:
    """The study that the command line asks for. Raises SpecError, also where it is not that of a sweep's agent."""
    from patchboard.track.agent_point import point_of

    point = point_of(os.environ)
    study = _asked(args, rest, {f"--{name}={value}": value for name, value in point.items()})
    if point:
        from patchboard.spec.agreement import check_given

        check_given(study.tree, point)
    return study


def _asked(args: argparse.Namespace, rest: Sequence[str], exact: Mapping[str, Any]) -> Any:
    """exact: as ``parse_overrides`` takes it."""
    from patchboard.spec.agreement import SHORTHANDS
    from patchboard.spec.load import load_study
    from patchboard.spec.overrides import parse_overrides, text_of_flag

    overrides = {
        path: text_of_flag(value, f"--{flag}")
        for flag, path in SHORTHANDS.items()
        if (value := getattr(args, flag)) is not None
    }
    overrides |= parse_overrides(rest, exact=exact)
    study = load_study(args.spec, overrides)
    if args.layers is None:
        return study
    from patchboard.spec.layers import layers_of_flag, with_form_of

    asked = layers_of_flag(args.layers, "--layers")
    chosen = {
        f"interventions.{name}.layers": with_form_of(section.get("layers"), asked)
        for name, section in study.tree["interventions"].items()
        if not section.get("edits")
    }
    if not chosen:
        raise SpecError("--layers", "reaches no intervention: all are lists of edits", "set layers in each edit")
    return load_study(args.spec, overrides | chosen)


def _say_what_layers_left(study: Any, args: argparse.Namespace) -> None:
    """A line on interventions that ``--layers`` did not reach; behind the work, since errors stand alone."""
    left = [name for name, section in study.tree["interventions"].items() if section.get("edits")]
    if args.layers is not None and left and not args.quiet:
        text = f"note: --layers leaves {', '.join(left)} as in the spec: set layers in each of its edits"
        print(text, file=sys.stderr)


def _check_key(study: Any, args: argparse.Namespace) -> None:
    """What a remote run needs to have at home, before models are looked up. Raises SpecError."""
    remote = _remote(args)
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
        options = Options(args.out, args.fresh, args.engine, args.device, tick, _remote(args))
        folder = run_study(study, options)
        mirror.finish(folder)
        return examined(study, folder, options)


def _remote(args: argparse.Namespace) -> Any:
    """Where to run but here; None for here. Raises SpecError."""
    from patchboard.execution.options import Remote

    for flag in ("job_tokens", "patience"):
        if getattr(args, flag) <= 0:
            raise SpecError(f"--{flag.replace('_', '-')}", f"{getattr(args, flag)} is not above 0", "give more")
    if args.remote is None:
        return None

    def tell(line: str) -> None:
        if not args.quiet:
            print(line, file=sys.stderr, flush=True)

    return Remote(args.remote, args.job_tokens, args.patience, args.vectors, tell)


def _show_plan(study: Any, args: argparse.Namespace, following: Callable[[Any], Sequence[Any]]) -> None:
    from patchboard.execution.run import plan_study
    from patchboard.measure.notes import foreseen
    from patchboard.report.tables import print_plan

    plans = plan_study(study)
    _say_what_layers_left(study, args)
    for note in () if args.quiet else foreseen(plans):
        print(f"note: {note}", file=sys.stderr)
    if args.show_tokens:
        _show_tokens(plans)
        return
    found = _planned(study, plans, args)
    later = [(each, _planned(each, plan_study(each), args)) for each in following(study)]
    if args.json:
        print(json.dumps(found | ({"following": [each for _, each in later]} if later else {}), indent=1))
        return
    print_plan(study, found)
    for each, planned in later:
        print_plan(each, planned, follows=study.name)


def _planned(study: Any, plans: Sequence[Any], args: argparse.Namespace) -> dict[str, Any]:
    """``plan_json`` of the study's plans, on a host with its jobs."""
    from patchboard.execution.run import plan_json
    from patchboard.plan.cost import cost_of
    from patchboard.plan.packs import Budget

    found = plan_json(plans, [cost_of(plan, args.engine, Budget()) for plan in plans])
    remote = _remote(args)
    if remote:
        from patchboard.execution.remote_cost import remote_cost

        for plan, entry in zip(plans, found["models"], strict=True):
            entry["remote"] = remote_cost(plan, args.engine, study.digest, remote).as_dict()
    return found


def _show_tokens(plans: Sequence[Any]) -> None:
    from patchboard.engine.load import open_model
    from patchboard.tasks.frames import described, in_words
    from patchboard.tasks.prompts import show_tokens

    for plan in plans:
        tokenizer, _ = open_model(plan.section)
        for group in plan.groups:
            shown = next((p for p in group.prompts if not p.excluded), None)
            print(f"{group.task}, {group.shots} shots")
            for entry in described(group.prompts, tokenizer):
                print(in_words(entry))
            print(show_tokens(shown, tokenizer) if shown else f"  excluded: {group.prompts[0].excluded}")


def run_script(default_spec: Path, description: str, arguments: list[str]) -> int:
    """A script's command line: ``run`` with a spec of its own where none is given."""
    parser = Parser(description=description, allow_abbrev=False)
    parser.add_argument("spec", nargs="?", type=expanded, default=default_spec, metavar="SPEC.yaml")
    add_run_flags(parser)
    return run_of_flags(*parsed(parser, arguments))


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
