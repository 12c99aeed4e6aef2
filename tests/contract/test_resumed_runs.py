"""A resumed run computes what an undisturbed one does: the same packs, on operands that lie the same in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import Tensor

from patchboard.engine import memory
from patchboard.engine.local import LocalEngine
from patchboard.engine.memory import budget_for
from patchboard.execution.run import Options, run_study
from patchboard.plan.facts import ModelFacts
from patchboard.plan.packs import default_budget
from patchboard.spec import Study, study_of
from tests.contract.tiny import VECTOR, manifest_of, tiny_tree

PLENTY, TIGHT = 64 << 30, 700 << 20
"""Free bytes: in TIGHT the default budget fits, but takes more than half of it, so it would not be chosen."""


@pytest.fixture
def free(monkeypatch):
    def set_to(found: int) -> None:
        monkeypatch.setattr(memory, "free_bytes", lambda device: found)

    set_to(PLENTY)
    return set_to


@pytest.fixture
def study(llama_folder) -> Study:
    erased = {"op": "ablate", "vector": {"subspace": "tasks", "rank": 2, "shots": 1, "prompts": 3}, "layers": "0:4"}
    patched = {"op": "patch", "vector": VECTOR, "layers": "0:4"}
    return study_of(tiny_tree(llama_folder, interventions={"erased": erased, "patched": patched}))


class Watch:
    """Notes what each pack is given, and stops the run once ``left`` packs have been computed."""

    def __init__(self, monkeypatch: Any):
        self.seen: dict[str, Any] = {}
        self.left = 10**6
        original = LocalEngine.score_pack

        def watched(engine, group, pack, operands, scorers):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            self.seen[group.id + pack.id] = {key: lies(operand) for key, operand in operands.items()}
            return original(engine, group, pack, operands, scorers)

        monkeypatch.setattr(LocalEngine, "score_pack", watched)


def lies(operand: Any) -> Any:
    """Shape and strides of its tensors."""
    parts = [operand] if isinstance(operand, Tensor) else [operand.left, operand.right, operand.center]
    return [(tuple(part.shape), part.stride(), str(part.dtype)) for part in parts]


def outcomes(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "outcomes.parquet")


@pytest.mark.slow
def test_after_an_interrupt_packs_and_operands_are_those_of_an_undisturbed_run(study, free, monkeypatch, tmp_path):
    watch = Watch(monkeypatch)
    whole = run_study(study, Options(out=tmp_path / "whole"))
    undisturbed, watch.seen = watch.seen, {}
    watch.left = 4  # two samples, and two packs
    with pytest.raises(KeyboardInterrupt):
        run_study(study, Options(out=tmp_path / "stopped"))
    first, watch.seen, watch.left = watch.seen, {}, 10**6
    free(TIGHT)
    resumed = run_study(study, Options(out=tmp_path / "stopped"))
    assert len(first) >= 3 and watch.seen
    assert first | watch.seen == undisturbed
    assert outcomes(resumed).equals(outcomes(whole))
    assert manifest_of(resumed)["fallbacks"] == manifest_of(whole)["fallbacks"]


def test_the_budget_that_a_run_began_with_is_kept_while_it_fits(free):
    facts = ModelFacts("llama", layers=4, width=64, vocab=83)
    cpu = (torch.device("cpu"),)
    begun = budget_for(facts, cpu, 4)
    assert begun == default_budget(facts)
    free(TIGHT)
    assert budget_for(facts, cpu, 4) == begun.halved() and budget_for(facts, cpu, 4, begun) == begun
    free(TIGHT // 8)
    assert budget_for(facts, cpu, 4, begun).tokens < begun.tokens


@pytest.mark.slow
def test_a_resumed_run_that_must_take_smaller_packs_says_so(study, free, monkeypatch, tmp_path):
    watch = Watch(monkeypatch)
    watch.left = 4
    with pytest.raises(KeyboardInterrupt):
        run_study(study, Options(out=tmp_path / "run"))
    watch.left = 10**6
    free(TIGHT // 8)
    manifest = manifest_of(run_study(study, Options(out=tmp_path / "run")))
    assert any(line.startswith("resumed with less free memory: later packs") for line in manifest["fallbacks"])
