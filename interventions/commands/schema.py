"""`patchboard schema`: the JSON Schema of a spec, for editors."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from patchboard.cli.arguments import add_plugins_flag


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("schema", help="JSON Schema of a spec, for editors")
    add_plugins_flag(parser)
    parser.set_defaults(act=act)


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    from patchboard.spec.json_schema import json_schema

    print(json.dumps(json_schema(), indent=1))
    return 0
