"""`patchboard recommend`: which layer, head and strength of a finished run, by a rule with bounds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from patchboard.user_paths import expanded


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "recommend", help="the layer and strength of the largest effect that leaves other things alone"
    )
    parser.add_argument("folder", type=expanded, metavar="RUN_DIR")
    parser.add_argument("--metric", metavar="NAME", help="whose effect; default: the spec's first")
    parser.add_argument("--direction", choices=("rise", "fall", "either"), default="either", help="of the effect")
    parser.add_argument(
        "--max-random", type=_bound, default=0.5, metavar="SHARE",
        help="largest effect of the random counterpart, as a share of the effect, or none (default: 0.5)",
    )  # fmt: skip
    parser.add_argument(
        "--max-kl", type=_bound, default=0.1, metavar="NATS",
        help="largest KL on unrelated texts (control `unrelated`), or none (default: 0.1)",
    )  # fmt: skip
    parser.add_argument("--intervention", metavar="NAME", help="default: all")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(act=act)


def act(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    import json

    from patchboard.api.recommend import recommended
    from patchboard.api.result import open
    from patchboard.measure.recommend import Rule
    from patchboard.report.recommended import not_measured, section_of, sentences
    from patchboard.spec import dump_yaml

    run, rule = open(args.folder), Rule(args.max_random, args.max_kl, args.direction)
    entries = recommended(run.study, run.outcomes, args.intervention, args.metric, rule)
    if args.json:
        print(json.dumps(entries, indent=2))
        return 0
    for entry in entries:
        print(" ".join(sentences(entry, rule)))
        if entry["choice"] is not None:
            section = {"interventions": {entry["intervention"]: section_of(entry, run.study.tree)}}
            print("".join(f"  {line}\n" for line in dump_yaml(section).splitlines()), end="")
    for line in not_measured(entries, rule):
        print(line)
    return 0


def _bound(text: str) -> float | None:
    """``none`` or a number of at least 0."""
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number of at least 0, or none")
    return value
