"""`--plan` and `--show-tokens`: what would run and cost. Needs weights only to predict seconds."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from patchboard.cli.flags_study import say_what_layers_left
from patchboard.cli.run_flags import remote_of_flags

if TYPE_CHECKING:
    from patchboard.spec.axes import Study


def show_plan(study: Study, args: argparse.Namespace, following: Callable[[Study], Sequence[Study]]) -> None:
    from patchboard.api.plan import Plan, predictions
    from patchboard.execution.options import check_calibration, check_devices
    from patchboard.execution.planned import plan_study
    from patchboard.report.plan_tables import print_plan

    remote = remote_of_flags(args)
    check_devices(args.devices, remote is not None, "--devices")
    check_calibration(args.calibrate, remote, "--calibrate")
    plans = plan_study(study)
    predicted = predictions(plans, args.engine, args.device) if args.calibrate else []
    plan = Plan(study, plans, args.engine, remote, predicted=predicted)
    say_what_layers_left(study, args)
    for note in () if args.quiet else plan.notes:
        print(f"note: {note}", file=sys.stderr)
    if args.show_tokens:
        print(plan.tokens())
        return
    later = [(each, Plan(each, plan_study(each), args.engine, remote).as_dict()) for each in following(study)]
    if args.json:
        print(json.dumps(plan.as_dict() | ({"following": [each for _, each in later]} if later else {}), indent=1))
        return
    print_plan(study, plan.as_dict())
    for each, numbers in later:
        print_plan(each, numbers, follows=study.name)
