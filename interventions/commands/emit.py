"""`patchboard emit`: its flags, the cells that they choose, the files that it writes."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patchboard.cli.arguments import prepare_libraries
from patchboard.cli.flags_study import study_of_flags
from patchboard.cli.run_flags import add_spec_flags
from patchboard.errors import SpecError
from patchboard.user_paths import expanded


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("emit", help="write a plain nnsight script that recomputes cells", allow_abbrev=False)
    parser.set_defaults(act=act, takes_overrides=True)
    parser.add_argument("spec", type=expanded, metavar="SPEC.yaml", help="a spec, or the folder of a run")
    add_spec_flags(parser)
    which = parser.add_argument_group("which cells (names apart by commas, or all)")
    which.add_argument("--intervention", metavar="NAMES", help="default: all")
    which.add_argument("--control", metavar="NAMES", help="controls of the spec by name; default: none")
    which.add_argument("--task", metavar="NAMES", help="default: the first")
    which.add_argument("--layer", metavar="LAYERS", help="as layers in a spec; default: each intervention's middle one")
    which.add_argument("--head", metavar="HEADS", help="of site head; default: the first")
    which.add_argument("--queries", type=int, default=3, metavar="N", help="the first N queries of each task (3)")
    which.add_argument(
        "--setting", action="append", default=[], metavar="PATH=VALUE",
        help="a value of a swept field; default: its first value",
    )  # fmt: skip
    parser.add_argument("--out", type=expanded, metavar="FILE.py", help="where to (default: NAME.py)")
    parser.add_argument(
        "--run", type=expanded, metavar="DIR", help="the run to compare with (default: runs/NAME-DIGEST)"
    )


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    print(emitted(args, overrides))
    return 0


def emitted(args: argparse.Namespace, overrides: Sequence[str]) -> str:
    """Write the script, and its fit prompts where it has some; returns what to tell.

    Raises PatchboardError, and nothing is written then.
    """
    from patchboard.spec.overrides import parse_overrides

    if args.queries < 1:
        raise SpecError("--queries", f"{args.queries} is not above 0", "give more")
    if args.spec.is_dir():
        args.run = args.run or args.spec
        args.spec = args.spec / "spec.yaml"
    settings: dict[str, Any] = {}
    for each in args.setting:
        try:
            settings |= parse_overrides([f"--{each.removeprefix('--')}"])
        except SpecError as error:
            raise SpecError("--setting", f"'{each}' {error.what}", "write it as in prompts.shots=4") from None
    study = study_of_flags(args, overrides)
    out = args.out or Path(f"{study.name}.py")
    if out.suffix != ".py":
        raise SpecError("--out", f"'{out}' is no name of a script", "let it end in .py")
    prepare_libraries()
    from patchboard.emit.recorded import recorded
    from patchboard.emit.script import script_of
    from patchboard.emit.select import Selection, choose
    from patchboard.execution.identity import versions
    from patchboard.execution.planned import folder_of, plan_study

    fit_file = out.with_suffix(".fit.json")
    _check_free(out, fit_file)
    selection = Selection(
        _names(args.intervention), _names(args.control), _names(args.task),
        args.layer or "", args.head or "", args.queries, settings,
    )  # fmt: skip
    plans = plan_study(study)
    chosen = choose(study, plans, selection)
    run = recorded(study, args.run, folder_of(study, None))
    script = script_of(study, chosen, run, str(args.spec), fit_file.name, versions())
    written = {out: script.text} | ({fit_file: script.fit} if script.fit else {})
    try:
        for path, text in written.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecError("--out", f"'{out}' cannot be written ({error.strerror})", "name another file") from None
    return "\n".join(
        [
            *(f"left out: {each}" for each in chosen.left_out),
            *(f"wrote {path}" for path in written),
            f"next: python {shlex.quote(str(out))}",
        ]
    )


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _check_free(*paths: Path) -> None:
    """Raises SpecError for a file that is none of ours: only emitted ones are written over."""
    from patchboard.emit.script import MARK

    for path in paths:
        if path.exists() and not (path.is_file() and MARK in path.read_text(encoding="utf-8", errors="replace")[:400]):
            raise SpecError("--out", f"'{path}' is there already and was not emitted", "name another file")
