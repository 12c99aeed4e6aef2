"""What a GPU makes of packs: the grid of docs/performance.md on models of 135M, 1B and 8B, and which pack size is best.

    python benchmarks/gpu.py --experiments                       # all of it, on one GPU
    python benchmarks/gpu.py --sizes 135m --tokens 128 --vectors 7 --json
    python benchmarks/gpu.py --device cpu --dtype float32 --sizes tiny --tokens 16 --vectors 1 --budgets 64 512

Random weights of the shapes of SmolLM2-135M, Llama 3.2 1B and Llama 3.1 8B. Each point: seconds of a clean forward
pass of the batch, of one hooked pass a cell (a few cells, scaled up), and of the sweep in packs of each budget of
tokens; token-layers a second of packs (those of the bound) and of the clean pass; peak memory. ``picked`` is the budget
that the library chooses by itself, ``regret`` its seconds over those of the best one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ours
import timing
import torch
import workload
from rivals import Hooks

from patchboard.engine.local import LocalEngine
from patchboard.engine.memory import budget_for, is_out_of_memory
from patchboard.plan.cost import cost_of
from patchboard.plan.packs import Budget

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
FULL = ("synthetic.py", "hijack.py")
"""Run with --full by --experiments."""

SIZES: dict[str, dict[str, Any]] = {
    "135m": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                 num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True),
    "1b": dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
               num_key_value_heads=8, head_dim=64, vocab_size=128256, tie_word_embeddings=True),
    "8b": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
               num_key_value_heads=8, vocab_size=128256),
    "tiny": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
                 num_key_value_heads=2, vocab_size=300),
}  # fmt: skip
"""tiny: to try the script where there is no GPU."""
HOOKED = 4
"""Cells that hooks run of each point."""


class Bench:
    """One model, with the packs that are tried on it."""

    def __init__(self, size: str, budgets: list[int], device: torch.device, dtype: torch.dtype):
        self.size, self.device, self.dtype = size, device, dtype
        self.model = workload.llama_of(SIZES[size], device, dtype)
        self.facts = workload.facts_of(self.model.config)
        self.picked = budget_for(self.facts, (device,), dtype.itemsize)
        given = {tokens: replace(self.picked, tokens=tokens, batch=tokens) for tokens in budgets}
        self.budgets = dict(sorted((given | {self.picked.at_once: self.picked}).items()))
        """Tokens of several prompts in a pass -> that budget."""

    def measure(self, point: workload.Point, repeats: int) -> dict[str, Any]:
        """The point's row of the result; a budget that memory has no room for has no seconds."""
        prompts = workload.random_prompts(workload.BATCH, point.tokens, self.facts.vocab)
        ids = torch.tensor([prompt.token_ids for prompt in prompts], device=self.device)
        group = workload.group_of(prompts, point.cells)
        bound = cost_of(workload.plan_of(group, self.facts), "wavefront", self.picked).bound
        vectors = workload.random_vectors(point.cells, self.facts.width)
        hooks = Hooks(self.model, ids, None)
        some = [point.cells[i] for i in range(0, len(point.cells), max(1, len(point.cells) // HOOKED))]
        cells = [(layer, vectors[workload.key(layer, c)].to(self.device, self.dtype)) for layer, c in some]
        hooks.clean(), hooks(cells[:1])  # warm
        seconds: dict[str, float | None] = timing.medians(
            {"clean": hooks.clean, "hooks": lambda: hooks(cells)}, repeats, self.device
        )
        assert seconds["clean"] and seconds["hooks"]
        seconds["hooks"] *= len(point.cells) / len(some)
        peaks: dict[str, float] = {}
        for tokens, budget in self.budgets.items():
            name = f"packs of {tokens}"
            seconds[name], peaks[name] = self._swept(group, vectors, budget, repeats)
        taken = {tokens: seconds[f"packs of {tokens}"] for tokens in self.budgets}
        own, best = taken[self.picked.at_once], min((s for s in taken.values() if s), default=None)
        clean = workload.BATCH * point.tokens * point.layers
        return {
            "size": self.size, **asdict(point), "cells": len(point.cells), "bound_token_layers": bound,
            "seconds": seconds, "peak_memory_gb": peaks, "picked": self.picked.at_once,
            "hooks_over_packs": timing.ratio(seconds["hooks"], own), "regret": timing.ratio(own, best) if own else None,
            "token_layers_a_second": {"clean": clean / seconds["clean"], "packs": bound / own if own else None},
            "efficiency": (bound / own) / (clean / seconds["clean"]) if own else None,
        }  # fmt: skip

    def _swept(self, group: Any, vectors: Any, budget: Budget, repeats: int) -> tuple[float | None, float]:
        """(seconds, peak GB) of the sweep in packs of that budget."""
        engine = LocalEngine(self.model, workload.tokenizer(), budget)
        sweeper = ours.Sweeper(engine, self.facts, budget, engine.place(vectors))
        try:
            _, peak = timing.with_peak(lambda: sweeper.sweep(group, "wavefront"), self.device)
            rounds = timing.medians({"sweep": lambda: sweeper.sweep(group, "wavefront")}, repeats, self.device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            engine.release()
            return None, float("nan")
        return rounds["sweep"], peak


def full_experiments() -> dict[str, float]:
    """Seconds by the clock of the experiments that take a GPU at their full size."""
    taken = {}
    for script in FULL:
        start = time.perf_counter()
        subprocess.run([sys.executable, str(EXPERIMENTS / script), "--full", "--wandb", "off"], check=True)
        taken[script] = round(time.perf_counter() - start, 1)
    return taken


def line(row: dict[str, Any]) -> str:
    efficiency = "-" if row["efficiency"] is None else f"{row['efficiency']:.2f}"
    return (
        f"{row['size']:>5} {row['layers']:>3} x {row['tokens']:>4} x {row['vectors']:>3}: "
        f"hooks / packs {row['hooks_over_packs']}, efficiency {efficiency}, "
        f"packs of {row['picked']} tokens, regret {row['regret']}"
    )


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="*", choices=tuple(SIZES), default=["135m", "1b", "8b"])
    parser.add_argument("--tokens", nargs="*", type=int, default=[16, 128, 512])
    parser.add_argument("--vectors", nargs="*", type=int, default=[1, 7, 28])
    parser.add_argument(
        "--budgets", nargs="*", type=int, default=[2048, 8192, 16384, 32768, 65536], help="tokens a pack"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--repeats", type=int, default=3, help="rounds; the median counts")
    parser.add_argument("--experiments", action="store_true", help="then synthetic.py and hijack.py with --full")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser.parse_args(argv)


def main() -> None:
    args = arguments()
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("error: --device: no GPU is at hand; use --device cpu --sizes tiny to try the script")
    rows = []
    with contextlib.redirect_stdout(sys.stderr):  # libraries print; standard output is the result's
        for size in args.sizes:
            bench = Bench(size, args.budgets, device, dtype)
            for tokens in args.tokens:
                for vectors in args.vectors:
                    point = workload.Point(SIZES[size]["num_hidden_layers"], tokens, vectors)
                    rows.append(bench.measure(point, args.repeats))
                    print(line(rows[-1]), flush=True)
            del bench
        taken = full_experiments() if args.experiments else {}
    if args.json:
        print(
            json.dumps(
                {
                    "benchmark": "gpu",
                    "machine": timing.machine(device),
                    "dtype": args.dtype,
                    "points": rows,
                    "experiments": taken,
                }
            )
        )


if __name__ == "__main__":
    main()
