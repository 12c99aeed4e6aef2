"""`patchboard vectors export`: a run's vectors as files of their own, and to the Hub."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from patchboard.cli.arguments import Parser
from patchboard.user_paths import expanded

_FORMATS = ("safetensors", "npz", "pt", "gguf")


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("vectors", help="write a run's vectors into files of their own")
    actions = parser.add_subparsers(dest="action", required=True, parser_class=Parser)
    export = actions.add_parser("export", help="vectors of a finished run, with a card", allow_abbrev=False)
    export.set_defaults(act=act)
    export.add_argument("folder", type=expanded, metavar="RUN_DIR")
    export.add_argument("--format", choices=_FORMATS, default="safetensors", help="default: safetensors, stamped")
    export.add_argument(
        "--to", "--out", type=expanded, metavar="DIR", help="where to (default: RUN_DIR-vectors beside the run)"
    )
    export.add_argument("--intervention", metavar="NAMES", help="apart by commas; default: all")
    export.add_argument("--layer", metavar="LAYERS", help="as layers in a spec; default: all")
    export.add_argument("--task", metavar="NAMES", help="as in the vectors' keys; default: all, without controls")
    export.add_argument(
        "--push", metavar="OWNER/NAME", help="upload files, card, spec and report into this repository on the Hub"
    )


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    from patchboard.exports.choose import Wanted
    from patchboard.exports.export import beside, export
    from patchboard.exports.push import check_repo, push

    if args.push:
        check_repo(args.push)
    wanted = Wanted(_names(args.intervention), _names(args.task), args.layer or "")
    also = beside(args.folder) if args.push else []
    files = export(args.folder, args.to, args.format, wanted)
    for file in files:
        print(f"wrote {file}")
    if args.push:
        print(f"pushed {push(args.push, [*files, *also], f'Vectors of {args.folder.resolve().name}')}")
    return 0


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())
