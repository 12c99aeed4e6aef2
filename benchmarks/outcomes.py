"""Effects from a file of outcomes: a few cells at a time, against the whole table in memory with polars.

    python benchmarks/outcomes.py                                    # 10,000 queries, and a sweep over heads
    python benchmarks/outcomes.py --queries 1000 --cells 60 --json

Each way is a process of its own, one after the other, on one thread: seconds of processor time, and the most memory
that the process held, its imports included. The ways must give the same effects, or the script stops. ``index``: the
library. ``table``: the library's statistics on the table read whole. ``lists``: polars groups the table by cell into
lists, which are laid side by side as matrices.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import timing
from polars.testing import assert_frame_equal

from patchboard.measure.effects import effects
from patchboard.measure.outcome_index import index_outcomes
from patchboard.measure.statistics import Bootstrap, interval
from patchboard.store.schema import EFFECTS, OUTCOMES
from patchboard.store.tables import growing_table

TASKS, METRICS, RESAMPLES = 3, ("accuracy", "logprob", "kl"), 2000
SIZES = {"queries": (10_000, 60, 0), "heads": (100, 3 * 16 * 16, 16)}
"""Queries of a task, cells of a task, heads of a layer (0: none are meant)."""
NAMES = [name for name in OUTCOMES if name not in ("query", "clean", "patched")]


def write(file: Path, queries: int, cells: int, heads: int) -> None:
    """Random outcomes in the order of a run: an intervention and two controls at each layer, or head."""
    rng = np.random.default_rng(0)
    with growing_table(file, OUTCOMES) as append:
        for task, cell in np.ndindex(TASKS, cells):
            place, control = divmod(cell, 3)
            layer, head = divmod(place, heads) if heads else (place, -1)
            for metric in METRICS:
                clean = (rng.random(queries) < 0.5).astype(float) if metric == "accuracy" else rng.normal(size=queries)
                row = {
                    "task": f"T{task}", "intervention": "positive", "control": ("", "self", "random")[control],
                    "vector_task": f"T{task}", "op": "patch", "site": "head" if heads else "resid_post", "layer": layer,
                    "layers": str(layer), "head": head, "position": "last", "strength": 1.0, "shots": 4, "seed": 0,
                    "metric": metric, "query": np.arange(queries), "clean": clean,
                    "patched": clean + rng.normal(size=queries),
                }  # fmt: skip
                append(pl.DataFrame(row).select(pl.col(name).cast(kind) for name, kind in OUTCOMES.items()))


def by_lists(file: Path, bootstrap: Bootstrap) -> pl.DataFrame:
    """The plain way: all of it in memory, a matrix a task."""
    cells = pl.read_parquet(file).group_by(NAMES, maintain_order=True).agg("clean", "patched")
    tables = []
    for (task,), some in cells.group_by("task", maintain_order=True):
        clean, patched = (np.array(some[name].to_list()).T for name in ("clean", "patched"))  # [query, cell]
        low, high = interval(patched - clean, bootstrap, [str(task)] * len(clean))
        tables.append(
            some.select(NAMES).with_columns(
                clean=clean.sum(0) / len(clean), patched=patched.sum(0) / len(clean),
                effect=(patched - clean).sum(0) / len(clean), ci_low=low, ci_high=high,
                n=pl.lit(len(clean)), excluded=pl.lit(0),
            )
        )  # fmt: skip
    return pl.concat(tables).select(pl.col(name).cast(kind) for name, kind in EFFECTS.items())


WAYS = {
    "index": lambda file, bootstrap: effects(index_outcomes(pl.scan_parquet(file)), bootstrap),
    "table": lambda file, bootstrap: effects(index_outcomes(pl.read_parquet(file)), bootstrap),
    "lists": by_lists,
}


def measure(way: str, file: Path) -> dict[str, Any]:
    """Seconds and MiB of one way, in this process; its effects lie beside the file."""
    start = time.process_time()
    found = WAYS[way](file, Bootstrap(RESAMPLES, 0.95, 0))
    seconds = time.process_time() - start
    found.write_parquet(file.with_name(f"{way}.parquet"))
    return {"seconds": round(seconds, 2), "mib": round(timing.process_peak_gb() * 1024)}


def must_agree(found: pl.DataFrame, expected: Path) -> None:
    """Raises AssertionError where two ways differ by more than sums in another order."""
    assert_frame_equal(found, pl.read_parquet(expected), rel_tol=1e-9, abs_tol=1e-9)


def compared(queries: int, cells: int, heads: int) -> dict[str, Any]:
    """The ways on the same file, and how many times the index's time and memory each takes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "outcomes.parquet"
        write(file, queries, cells, heads)
        found = {}
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--file", str(file)]
            found[way] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            must_agree(pl.read_parquet(file.with_name(f"{way}.parquet")), file.with_name("index.parquet"))
    own = found["index"]
    ratios = {way: {name: timing.ratio(one[name], own[name]) for name in own} for way, one in found.items()}
    outcomes = TASKS * len(METRICS) * queries * cells
    return {"queries": queries, "cells": cells, "outcomes": outcomes, "ways": found, "over_index": ratios}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, help="of each of three tasks, in place of the two sizes")
    parser.add_argument("--cells", type=int, default=60, help="of each task, each with three metrics")
    parser.add_argument("--heads", type=int, default=0, help="of a layer")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main() -> None:
    args = arguments()
    if args.way:
        print(json.dumps(measure(args.way, args.file)))
        return
    sizes = [(args.queries, args.cells, args.heads)] if args.queries else SIZES.values()
    points = [compared(*size) for size in sizes]
    if args.json:
        print(json.dumps({"benchmark": "outcomes", "points": points}))
        return
    for point in points:
        print(f"{point['queries']:,} queries, {point['cells']:,} cells, {point['outcomes']:,} outcomes")
        for way, one in point["ways"].items():
            over = point["over_index"][way]
            print(f"  {way}  {one['seconds']:7.2f} s ({over['seconds']:.2f})  {one['mib']:6,} MiB ({over['mib']:.2f})")


if __name__ == "__main__":
    main()
