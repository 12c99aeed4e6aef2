"""Layer sweeps side by side: one forward pass a cell, as written by hand, against packed sequences.

    python benchmarks/sweep.py                                          # the whole grid: hours
    python benchmarks/sweep.py --quick --json --layers 16 --tokens 128 --vectors 7
    python benchmarks/sweep.py --device cuda --dtype bfloat16 --width 4096 --layers 32

One process, one thread, warm; every rival in every round; median of the rounds; ratios. A cell puts one
vector in place of the last token's state behind one block, for all prompts of the batch; layers x vectors
cells make a point. The model is a random Llama: speed doesn't depend on what weights say.

efficiency = (clean forward's seconds a token-layer) / (the wavefront's seconds a token-layer of the bound),
where the bound counts each counterfactual token once a block that can differ (docs/performance.md).
clean_of_product, wavefront_of_product = FLOP/s (as a plan counts them) over those of plain matrix products of the clean
pass's shapes in the same round: what the machine can do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import ours
import timing
import torch
import workload
from rivals import PEERS, Hooks, missing
from torch import Tensor

from patchboard.engine.local import LocalEngine
from patchboard.engine.memory import budget_for
from patchboard.plan.cost import cost_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.flops import block_numbers, causal_work, flops_of

RIVALS = ("wavefront", "rows", *PEERS)
COLUMNS = (
    "hooks_over_bound", *(f"hooks_over_{name}" for name in RIVALS), "efficiency", "clean_of_product",
    "wavefront_of_product",
)  # fmt: skip
GRID = {"layers": (16, 32), "tokens": (16, 128, 512), "vectors": (1, 7, 28)}

CLEAN_PASSES = 3
"""In a round: one alone is too short to be timed beside the rest."""


@dataclass(frozen=True)
class Settings:
    """How a point is measured."""

    width: int
    vocab: int
    repeats: int
    budget: float  # seconds of hooked forward passes a round; beyond it a subset of cells is timed
    peers: tuple[str, ...]
    ways: tuple[str, ...]


class Bench:
    """One model of one depth, with everybody who runs on it."""

    def __init__(self, layers: int, settings: Settings, device: torch.device, dtype: torch.dtype):
        self.settings, self.device, self.dtype = settings, device, dtype
        self.model = workload.random_llama(layers, settings.width, settings.vocab, device, dtype)
        self.facts = workload.facts_of(self.model.config)
        self.budget = budget_for(self.facts, (device,), dtype.itemsize)
        self._matrices = [p.detach() for p in self.model.model.layers.parameters() if p.dim() == 2]
        longest = workload.BATCH * max(GRID["tokens"])
        self._states = {
            width: torch.randn(longest, width, device=device, dtype=dtype)
            for width in {matrix.shape[1] for matrix in self._matrices}
        }
        self.engine = LocalEngine(self.model, workload.tokenizer(), self.budget)

    def measure(self, point: workload.Point) -> dict[str, Any]:
        """The point's row of the result."""
        vocab, device = self.settings.vocab, self.device
        prompts = workload.random_prompts(workload.BATCH, point.tokens, vocab)
        ids = torch.tensor([prompt.token_ids for prompt in prompts], device=device)
        vectors = workload.random_vectors(point.cells, self.settings.width)
        operands = self.engine.place(vectors)
        sweeper = ours.Sweeper(self.engine, self.facts, self.budget, operands)
        hooks = Hooks(self.model, ids, None)

        timed = self._timed_cells(point, hooks, operands)
        cells = [(layer, operands[workload.key(layer, c)].to(self.dtype)) for layer, c in timed]
        group, subset = (workload.group_of(prompts, chosen) for chosen in (point.cells, timed))
        rows = {"rows": subset}  # a sequence a cell, as the hooks: the same cells are timed, and scaled up

        expected = torch.stack([logits.float().cpu() for logits in hooks(cells)])
        peers = {name: PEERS[name][1](self.model, ids, workload.tokenizer()) for name in self.settings.peers}
        for name, peer in peers.items():
            self._must_agree(name, torch.stack([x.float().cpu() for x in peer(cells[:2])]), expected[:2])
        peaks, differences = {}, []
        _, peaks["hooks"] = timing.with_peak(lambda: hooks(cells[:1]), device)
        where = [point.cells.index(cell) for cell in timed]
        for way in self.settings.ways:
            of = rows.get(way, group)
            found, peaks[way] = timing.with_peak(lambda way=way, of=of: sweeper.logits(of, way), device)
            differences.append(((found[where] if of is group else found) - expected).abs().max().item())

        rivals: dict[str, Any] = {
            "product": lambda: self._products(workload.BATCH * point.tokens),
            "clean": lambda: [hooks.clean() for _ in range(CLEAN_PASSES)],
            "hooks": lambda: hooks(cells),
        }
        rivals |= {name: lambda peer=peer: peer(cells) for name, peer in peers.items()}
        for way in self.settings.ways:
            of = rows.get(way, group)
            rivals[way] = lambda way=way, of=of: sweeper.sweep(of, way)
        seconds = timing.medians(rivals, self.settings.repeats, device)

        costs = [cost_of(workload.plan_of(g, self.facts), "rows", self.budget) for g in (group, subset)]
        seconds["clean"] /= CLEAN_PASSES
        seconds["product"] /= CLEAN_PASSES
        scale = len(point.cells) / len(timed)
        for name in ("hooks", *peers):
            seconds[name] *= scale
        if "rows" in seconds:
            seconds["rows"] *= costs[0].token_layers / costs[1].token_layers
        bound = costs[0].bound
        flops = {
            "product": 2 * workload.BATCH * point.tokens * int(block_numbers(self.facts).sum()),
            "clean": clean_flops(point, self.facts),
            "wavefront": cost_of(workload.plan_of(group, self.facts), "wavefront", self.budget).flops,
        }
        return asdict(point) | summary(point, seconds, bound) | achieved(flops, seconds) | {
            "largest_difference": max(differences),
            "hooks_cells_timed": len(timed),
            "cells": len(point.cells),
            "bound_token_layers": bound,
            "flops": flops,
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
            "peak_memory_gb": peaks if device.type == "cuda" else None,
        }  # fmt: skip

    def _products(self, tokens: int) -> None:
        """The matrix products of clean passes over so many tokens and nothing else: what the machine can do on these
        shapes. The model's own matrices, so that they come from memory as they do there."""
        for _ in range(CLEAN_PASSES):
            for matrix in self._matrices:
                torch.mm(self._states[matrix.shape[1]][:tokens], matrix.T)

    def _timed_cells(self, point: workload.Point, hooks: Hooks, operands: Any) -> list[tuple[int, int]]:
        """All cells, or as many evenly spaced ones as the budget of hooked forward passes holds."""
        layer, vector = point.cells[0]
        cell = [(layer, operands[workload.key(layer, vector)].to(self.dtype))]
        hooks(cell)
        each = timing.seconds(lambda: hooks(cell), self.device)
        count = min(len(point.cells), max(4, int(self.settings.budget / each)))
        chosen = np.unique(np.linspace(0, len(point.cells) - 1, count).round().astype(int))
        return [point.cells[i] for i in chosen]

    def _must_agree(self, name: str, found: Tensor, expected: Tensor) -> None:
        # float32 sums in another order; the half formats round at each layer
        allowed = 1e-3 if self.dtype == torch.float32 else 1.0
        difference = (found - expected).abs().max().item()
        if difference > allowed:
            sys.exit(
                f"error: {name}: its logits differ from the hooks' by {difference:.2g}; it computes something else"
            )


def summary(point: workload.Point, seconds: dict[str, float], bound: int) -> dict[str, float | None]:
    """Ratios over the hooks, and the wavefront's efficiency against the bound; None for who wasn't run.

    hooks_over_bound is counted, not timed: the hooks' token-layers over those of the bound.
    """
    ratios = {f"hooks_over_{name}": timing.ratio(seconds["hooks"], seconds.get(name)) for name in RIVALS}
    wavefront = seconds.get("wavefront")
    clean = seconds["clean"] / (workload.BATCH * point.tokens * point.layers)
    loop = workload.BATCH * len(point.cells) * point.tokens * point.layers
    ratios = {"hooks_over_bound": round(loop / bound, 3)} | ratios
    return ratios | {"efficiency": None if wavefront is None else round(clean / (wavefront / bound), 3)}


def clean_flops(point: workload.Point, facts: ModelFacts) -> int:
    """Of a clean pass over the batch, which reads the last token alone."""
    work = causal_work(point.layers, 0, point.tokens).times(workload.BATCH)
    return flops_of(replace(work, reads=workload.BATCH), facts)


def achieved(flops: dict[str, int], seconds: dict[str, float]) -> dict[str, Any]:
    """FLOP/s of each, and of the clean pass and the wavefront over those of the plain products; None for who wasn't
    run."""
    rates = {name: flops[name] / seconds[name] if seconds.get(name) else None for name in flops}
    limit = rates["product"]
    shares = {f"{name}_of_product": timing.ratio(rates[name], limit) for name in ("clean", "wavefront")}
    return {"flops_per_second": rates} | shares


def table_line(row: dict[str, Any]) -> str:
    """One line of the table; no row: its head."""
    named = {column: column.removeprefix("hooks_over_") for column in COLUMNS}
    parts = [f"{row.get(axis, axis):>7}" for axis in GRID]
    for column, name in named.items():
        value = row.get(column, name) if row else name
        shown = value if isinstance(value, str) else "-" if value is None else f"{value:.2f}"
        parts.append(f"{shown:>{max(6, len(name))}}")
    difference = f"{row['largest_difference']:.1e}" if row else "differ"
    timed = f"{row['hooks_cells_timed']}/{row['cells']}" if row else "timed"
    return "  ".join([*parts, f"{difference:>7}", timed])


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, help="only this depth of the grid")
    parser.add_argument("--tokens", type=int, help="only this prompt length of the grid")
    parser.add_argument("--vectors", type=int, help="only this number of cells a layer of the grid")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=1000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--repeats", type=int, help="rounds; the median counts (default 3, quick 1)")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of hooked passes a round, then a subset")
    parser.add_argument("--quick", action="store_true", help="without other libraries; one round unless told")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser.parse_args(argv)


def main() -> None:
    args = arguments()
    timing.one_thread()
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    absent = missing()
    settings = Settings(
        args.width, args.vocab, args.repeats or (1 if args.quick else 3), args.budget,
        () if args.quick else tuple(name for name in PEERS if name not in absent), ours.WAYS,
    )  # fmt: skip
    axes = {name: GRID[name] if getattr(args, name) is None else (getattr(args, name),) for name in GRID}
    stream = sys.stderr if args.json else sys.stdout
    print(f"seconds of hooks over seconds of\n{table_line({})}", file=stream, flush=True)
    points = []
    with contextlib.redirect_stdout(sys.stderr):  # libraries print; standard output is the result's
        for layers in axes["layers"]:
            bench = Bench(layers, settings, device, dtype)
            for tokens in axes["tokens"]:
                for vectors in axes["vectors"]:
                    points.append(bench.measure(workload.Point(layers, tokens, vectors)))
                    print(table_line(points[-1]), file=stream, flush=True)
    result = {
        "benchmark": "sweep", "machine": timing.machine(device), "repeats": settings.repeats, "not_installed": absent,
        "model": {"family": "llama", "width": args.width, "vocab": args.vocab, "dtype": args.dtype},
        "batch": workload.BATCH, "process_peak_gb": timing.process_peak_gb(), "points": points,
    }  # fmt: skip
    if args.json:
        print(json.dumps(result | (points[0] if len(points) == 1 else {})))
    elif absent:
        print(f"not installed: {', '.join(absent)}")


if __name__ == "__main__":
    main()
