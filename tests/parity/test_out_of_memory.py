"""Packs that do not fit are halved until they do, and what was done stays done: the same numbers, part by part."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.engine.local import LocalEngine
from patchboard.errors import EngineError
from patchboard.execution.pack_parts import PackParts
from patchboard.execution.run_packs import PackRunner
from patchboard.plan.cells import Edit
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import Counterfactual, Group, ModelPlan
from patchboard.spec.sections import ModelSection
from patchboard.store.folder import open_run
from tests.models import random_model, unequal_prompts


def packs_of_groups(folder, engine, way: str = "wavefront", groups: tuple[str, ...] = ("g",)) -> PackRunner:
    prompts = tuple(unequal_prompts())
    copies = [
        Counterfactual(),
        *(Counterfactual((Edit("patch", "resid_post", layer, '"last"', 1.0, "v"),)) for layer in range(4)),
    ]
    metrics = ("accuracy", "logprob", "kl")
    made_of = [Group(g, "A", 2, 0, prompts, (-1,) * len(prompts), tuple(copies), 0, (), metrics) for g in groups]
    facts = ModelFacts("llama", 4, engine.module.config.hidden_size, 83)
    plan = ModelPlan(ModelSection(), facts, tuple(made_of), (), {}, (), {})
    return PackRunner(PackParts(plan, folder, "", way, engine.budget), engine, {"v": torch.ones(facts.width)})


def table_of(folder, engine, way: str = "wavefront") -> pl.DataFrame:
    return whole(packs_of_groups(folder, engine, way))


def whole(packs: PackRunner) -> pl.DataFrame:
    """The only group's table, computed where it is missing."""
    (group,) = packs.parts.groups
    packs.run(group)
    return pl.concat(packs.parts.scores(group)).sort("query", "copy")


class SmallMemory(LocalEngine):
    """Runs out of memory where a pack holds more pairs than ``room``."""

    room = 10**9
    tried = 0
    sizes: list[int] = []

    def score_pack(self, group, pack, operands, scorers):
        self.tried += 1
        self.sizes.append(len(pack.prompts) * len(pack.copies))
        if len(pack.prompts) * len(pack.copies) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().score_pack(group, pack, operands, scorers)


@pytest.mark.parametrize("room", [pytest.param(1, marks=pytest.mark.slow), 4, pytest.param(7, marks=pytest.mark.slow)])
def test_halved_packs_give_the_same_table(room, tmp_path):
    engine = SmallMemory(random_model("llama"), build())
    with open_run(tmp_path / "whole", "d") as folder:
        undisturbed = table_of(folder, engine)
    engine.room, engine.tried = room, 0
    with open_run(tmp_path / "halved", "d") as folder:
        halved = table_of(folder, engine)
        parts = len(list((folder.path / "parts").iterdir()))
        tried, engine.tried = engine.tried, 0
        again = table_of(folder, engine)
    assert parts > 1 and tried > parts
    for name in ("accuracy", "logprob", "kl"):
        assert (halved[name] - undisturbed[name]).abs().max() < 1e-5
    assert halved.select("query", "copy").equals(undisturbed.select("query", "copy"))
    assert again.equals(halved)
    assert engine.tried <= tried - parts, "finished pieces are not run again"


def test_later_packs_begin_at_the_size_that_fitted(tmp_path):
    engine = SmallMemory(random_model("llama"), build())
    engine.room, engine.sizes = 7, []
    with open_run(tmp_path / "out", "d") as folder:
        packs = packs_of_groups(folder, engine, groups=("first", "second"))
        sizes = {}
        for group in packs.parts.groups:
            packs.run(group)
            sizes[group.id], engine.sizes = engine.sizes, []
    assert max(sizes["first"]) > engine.room >= max(sizes["second"])


def test_what_cannot_be_halved_is_told(tmp_path):
    engine = SmallMemory(random_model("llama"), build())
    engine.room = 0
    with open_run(tmp_path / "out", "d") as folder, pytest.raises(EngineError, match="--device: one prompt of A with"):
        table_of(folder, engine)


REAL = """
import resource, sys
from pathlib import Path
import torch
import polars as pl
from tests.parity.test_out_of_memory import build, LocalEngine, open_run, random_model, packs_of_groups, whole
torch.set_num_threads(1)

class Limited(LocalEngine):
    more = resource.RLIM_INFINITY

    def score_pack(self, *args):
        # only while the model runs: polars, which writes the parts, aborts the process where it gets no memory
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = now + self.more if self.more > 0 else self.more
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try:
            return super().score_pack(*args)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

engine = Limited(random_model("llama", hidden_size=512, intermediate_size=60000), build())
with open_run(Path(sys.argv[1]), "d") as folder:
    packs = packs_of_groups(folder, engine)
    engine.more = int(sys.argv[2]) or engine.more
    table = whole(packs)
    table.write_parquet(Path(sys.argv[1]) / "table.parquet")
    print(packs.halving.times)
"""


@pytest.mark.slow
def test_memory_that_really_runs_out(tmp_path):
    """A forward pass may take 150 MB more than the process has: torch's own failure, halved and gone on from."""

    def run(out: Path, more: int) -> int:
        script = [sys.executable, "-c", REAL, str(out), str(more)]
        done = subprocess.run(script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return int(done.stdout.split()[-1])

    assert run(tmp_path / "free", 0) == 0
    assert run(tmp_path / "tight", 150 << 20) > 0
    free, tight = (pl.read_parquet(tmp_path / name / "table.parquet") for name in ("free", "tight"))
    assert (free["logprob"] - tight["logprob"]).abs().max() < 1e-4
