"""`--plan` and `--show-tokens`: what would run and cost. Needs no weights."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from patchboard.cli.flags_study import say_what_layers_left
from patchboard.cli.run_flags import remote_of_flags


def show_plan(study: Any, args: argparse.Namespace, following: Callable[[Any], Sequence[Any]]) -> None:
    from patchboard.execution.run import plan_study
    from patchboard.measure.notes import foreseen
    from patchboard.report.tables import print_plan

    plans = plan_study(study)
    say_what_layers_left(study, args)
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
    remote = remote_of_flags(args)
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
