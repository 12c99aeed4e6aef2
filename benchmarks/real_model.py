"""One sweep on a pretrained model: this library beside plain hooks, nnsight, pyvene and TransformerLens.

    pip install pyvene transformer-lens                       # peers; those that are absent are left out
    python benchmarks/real_model.py                           # every peer on every layer: an hour of one core
    python benchmarks/real_model.py --every 20 --repeats 3    # peers on every 20th layer: a quarter of an hour

The sweep is real_model.yaml: layers x 3 vectors x 64 queries of two tasks, the state of the last token patched.
Everybody runs in processes of its own on one thread, in turn in each round. Seconds are the processor's (user and
system): of the whole process, imports and loading included, and of the sweep alone. Ours fits the vectors, which the
peers are given, and makes intervals, figures and a page; its sweep is what its manifest counts as packs and measuring.
The largest difference is of the answers' log-probabilities, in nats, from plain hooks.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import peers
import timing
import torch
from real_sweep import batches_of, difference, our_outcomes, with_short_answers
from safetensors.torch import load_file

import patchboard as pb
from patchboard.engine.load import open_model
from patchboard.engine.source import source_of
from patchboard.spec.sections import ModelSection

HERE = Path(__file__).parent
SPEC = HERE / "real_model.yaml"
OURS = {"patchboard": "float32", "patchboard_bfloat16": "bfloat16"}
"""Our ways -> dtype."""
PEERS = {name: name for name in ("nnsight", "pyvene", "transformer_lens")} | {
    "hooks": "torch",
    "spared_hooks": "torch",
    "cached_hooks": "torch",
}
"""Module in peers -> what must be installed for it."""
ORACLE = "hooks"
SHARING = "cached_hooks"
"""Computes once what all layers share, so a part of the layers does not tell what all take."""
PAIRS = [HERE.parent / "tasks/data/pairs/verbs" / name for name in ("past.json", "third-person.json")]


@dataclass(frozen=True)
class Taken:
    """Seconds: of the processor for a whole process and for its sweep alone, and of the clock.

    A sweep of a part of the layers is scaled up to all of them: each pass goes through the whole model, whatever
    layer it patches. Seconds of the clock are as they were.
    """

    whole: float
    sweep: float
    clock: float

    def scaled(self, times: float) -> Taken:
        return Taken(self.whole + (times - 1) * self.sweep, times * self.sweep, self.clock)


def child(command: list[str]) -> tuple[str, float, float]:
    """What a process prints, its processor seconds and its seconds by the clock."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)}: {done.stderr.strip().splitlines()[-1]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return done.stdout, worked, time.perf_counter() - start


def run_ours(spec: Path, out: Path, flags: list[str]) -> Taken:
    """The sweep as the command line runs it, into ``out``."""
    command = [sys.executable, "-m", "patchboard", "run", str(spec), "--out", str(out), "--fresh", "--wandb", "off"]
    _, worked, clock = child([*command, "--device", "cpu", *flags])
    phases = pb.open(out).manifest["processor_seconds"]
    return Taken(worked, phases["packs"] + phases["measure"], clock)


def run_peer(name: str, model: str, folder: Path) -> Taken:
    printed, worked, clock = child([sys.executable, str(HERE / "peer.py"), name, model, str(folder)])
    return Taken(worked, json.loads(printed.splitlines()[-1])["sweep"], clock)


def measured(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everybody's seconds over the rounds, their medians, ratios over ours, and differences from plain hooks."""
    section = ModelSection(name=args.model)
    tokenizer, _ = open_model(section)  # a packaged model is unpacked, if it never was
    model, _ = source_of(section)
    files = with_short_answers(args.pairs, tokenizer, folder)
    flags = ["--model", args.model, f"--tasks.files={json.dumps(files)}"]
    names = [*OURS, *(name for name, module in PEERS.items() if find_spec(module))]
    names = [name for name in names if name != SHARING or args.every == 1]
    names = [name for name in names if name in (*args.only, "patchboard", ORACLE)] if args.only else names
    taken: dict[str, list[Taken]] = {name: [] for name in names}
    scale = 1.0
    for _ in range(args.repeats):
        for name in names:
            if name in OURS:
                taken[name].append(run_ours(SPEC, folder / name, [*flags, f"--model.dtype={OURS[name]}"]))
                if name == "patchboard":
                    run = pb.open(folder / name)
                    batches = batches_of(run, args.every)
                    peers.write_batches(batches, folder)
                    scale = run.manifest["models"][0]["layers"] / len(batches[0].layers)
            else:
                taken[name].append(run_peer(name, model, folder).scaled(scale))
            print(f"{name}: {taken[name][-1]}", file=sys.stderr, flush=True)
    found = {
        name: our_outcomes(pb.open(folder / name), args.every)
        if name in OURS
        else load_file(folder / f"{name}.safetensors")
        for name in names
    }
    medians = {
        name: {part: statistics.median(getattr(one, part) for one in all_) for part in ("whole", "sweep", "clock")}
        for name, all_ in taken.items()
    }
    return {
        "benchmark": "real_model", "machine": timing.machine(torch.device("cpu")), "repeats": args.repeats,
        "model": args.model, "every": args.every, "queries": len(run.prompts.filter(role="evaluate")),
        "seconds": medians, "cost": run.manifest["cost"],
        "phases": {name: pb.open(folder / name).manifest["processor_seconds"] for name in names if name in OURS},
        "taken": {name: [vars(one) for one in all_] for name, all_ in taken.items()},
        "over_ours": {
            name: {part: timing.ratio(of[part], medians["patchboard"][part]) for part in ("whole", "sweep")}
            for name, of in medians.items()
        },
        "difference": {name: difference(outcomes, found[ORACLE]) for name, outcomes in found.items()},
    }  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """Medians and ratios, a line each."""
    lines = [f"{'':20}{'process':>9}{'ours=1':>8}{'sweep':>9}{'ours=1':>8}{'nats':>9}{'flips':>12}"]
    for name, seconds in result["seconds"].items():
        over, apart = result["over_ours"][name], result["difference"][name]
        lines.append(
            f"{name:20}{seconds['whole']:8.1f}s{over['whole']:8.2f}{seconds['sweep']:8.1f}s{over['sweep']:8.2f}"
            f"{apart['nats']:9.1e}{apart['flips']:6}/{apart['of']}"
        )
    return "\n".join(lines)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--model", default="smollm2-135m", help="a packaged model's name, or a folder; of the Llama family"
    )
    parser.add_argument("--pairs", type=Path, nargs=2, default=PAIRS, help="two files {input: output}, one output each")
    parser.add_argument(
        "--every", type=int, default=1, help=f"peers run every so many layers, and are scaled up; not {SHARING}"
    )
    parser.add_argument("--repeats", type=int, default=1, help="rounds; the median counts")
    parser.add_argument("--only", nargs="*", choices=(*OURS, *PEERS), help="these, beside ours and plain hooks")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser.parse_args(argv)


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        result = measured(args, Path(folder))
    print(json.dumps(result) if args.json else table(result))


if __name__ == "__main__":
    main()
