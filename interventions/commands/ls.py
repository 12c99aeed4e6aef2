"""`patchboard ls`: every name that a spec may use, from the registries."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from patchboard.cli.arguments import add_plugins_flag
from patchboard.plugin_files import activate, use_in_process
from patchboard.registry import OWN


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("ls", help="tasks, ops, vectors, controls, metrics, model families; whose they are")
    add_plugins_flag(parser)
    parser.set_defaults(act=act)


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    use_in_process(args.plugins)
    activate(args.plugins)
    print_listing()
    return 0


def print_listing() -> None:
    """One line for each entry, kind by kind."""
    from patchboard.engine.families import ARCHITECTURES
    from patchboard.engine.unpacked import state_of
    from patchboard.metrics import METRICS
    from patchboard.ops import OPS
    from patchboard.plan.controls import CONTROLS
    from patchboard.probes import PROBES
    from patchboard.spec.packaged import PACKAGED
    from patchboard.spec.positions import POSITIONS
    from patchboard.spec.sites import SITES
    from patchboard.tasks.families import FAMILIES
    from patchboard.vectors.fitters import FITTERS

    def first_line(entry: Any) -> str:
        return " ".join((entry.__doc__ or "").split("\n\n")[0].split())

    listing = {
        "task families": {name: first_line(entry) for name, entry in FAMILIES.items()},
        "ops": {name: first_line(entry) for name, entry in OPS.items()},
        "vectors": {name: first_line(entry) for name, entry in FITTERS.items()},
        "controls": {name: entry.phrase for name, entry in CONTROLS.items()},
        "metrics": {name: f"{first_line(entry)} [{entry.unit}]" for name, entry in METRICS.items()},
        "probes": {name: first_line(entry) for name, entry in PROBES.items()},
        "sites": dict.fromkeys(SITES, ""),
        "positions": {name: entry.phrase for name, entry in POSITIONS.items()},
        "packaged models": {
            name: f"{row.title}, {row.quantization}, {row.licence} [{state_of(row)}]" for name, row in PACKAGED.items()
        },
        "model families": dict.fromkeys(ARCHITECTURES, ""),
    }  # fmt: skip
    registries = {
        "task families": FAMILIES, "ops": OPS, "vectors": FITTERS, "controls": CONTROLS, "metrics": METRICS,
        "positions": POSITIONS, "probes": PROBES, "model families": ARCHITECTURES,
    }  # fmt: skip
    for kind, entries in listing.items():
        print(kind)
        for name, text in entries.items():
            registry = registries.get(kind)
            origin = registry.enrolment(name).origin if registry else OWN
            print(f"  {name:<16} {text}{'' if origin == OWN else f' (from {origin.name})'}".rstrip())
