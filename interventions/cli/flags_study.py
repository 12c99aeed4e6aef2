"""The study that a command line asks for: its spec, flags that stand for paths of it, what a W&B agent chose."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from patchboard.errors import SpecError
from patchboard.plugin_files import use_in_process


def study_of_flags(args: argparse.Namespace, rest: Sequence[str]) -> Any:
    """The study that the command line asks for. Raises SpecError, also where it is not that of a sweep's agent."""
    from patchboard.track.agent_point import point_of

    use_in_process(args.plugins)
    point = point_of(os.environ)
    study = _study_of_overrides(args, rest, {f"--{name}={value}": value for name, value in point.items()})
    if point:
        from patchboard.spec.agreement import check_given

        check_given(study.tree, point)
    return study


def _study_of_overrides(args: argparse.Namespace, rest: Sequence[str], exact: Mapping[str, Any]) -> Any:
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

    layers = layers_of_flag(args.layers, "--layers")
    chosen = {
        f"interventions.{name}.layers": with_form_of(section.get("layers"), layers)
        for name, section in study.tree["interventions"].items()
        if not section.get("edits")
    }
    if not chosen:
        raise SpecError("--layers", "reaches no intervention: all are lists of edits", "set layers in each edit")
    return load_study(args.spec, overrides | chosen)


def say_what_layers_left(study: Any, args: argparse.Namespace) -> None:
    """A line on interventions that ``--layers`` did not reach; behind the work, since errors stand alone."""
    left = [name for name, section in study.tree["interventions"].items() if section.get("edits")]
    if args.layers is not None and left and not args.quiet:
        text = f"note: --layers leaves {', '.join(left)} as in the spec: set layers in each of its edits"
        print(text, file=sys.stderr)
