"""`patchboard schema`: the JSON Schema of a spec, for editors."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from patchboard.cli.arguments import add_plugins_flag
from patchboard.plugin_files import activate


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("schema", help="JSON Schema of a spec, for editors")
    add_plugins_flag(parser)
    parser.set_defaults(act=act)


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    from patchboard.metrics import METRICS
    from patchboard.ops import OPS
    from patchboard.plan.controls import CONTROLS
    from patchboard.probes import PROBES
    from patchboard.spec.json_schema import json_schema
    from patchboard.tasks.families import FAMILIES

    activate(args.plugins)
    known = {"op": OPS, "metric": METRICS, "task": FAMILIES, "control": CONTROLS, "probe": PROBES}
    print(json.dumps(json_schema({kind: list(names) for kind, names in known.items()}), indent=1))
    return 0
