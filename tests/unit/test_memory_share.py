"""What a pass may take of the memory that is free, and how far packing may be off: by value."""

import psutil
import pytest
import torch

from patchboard.engine.memory import budget_for
from patchboard.errors import EngineError
from patchboard.execution.choose_engine import choice_by_difference
from patchboard.plan.cost import cost_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import ModelPlan
from patchboard.plan.pack_cost import activation_floats
from patchboard.plan.packs import Budget
from patchboard.spec.sections import ModelSection

FACTS = ModelFacts("llama", layers=32, width=4096, vocab=32000, mlp=11008, heads=32, head_dim=128)


@pytest.mark.parametrize(("free", "bytes_each"), [(64 << 20, 2), (256 << 20, 4), (1 << 30, 4), (1 << 30, 8)])
def test_a_pass_takes_half_of_the_free_memory_and_no_more(monkeypatch, free, bytes_each):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": free}))
    budget = budget_for(FACTS, (torch.device("cpu"),), bytes_each)
    taken = activation_floats(FACTS, budget) * max(4, bytes_each)
    assert free / 10 < taken <= free / 2


@pytest.mark.parametrize(
    ("dtype", "within"), [("torch.float32", 1e-4), ("torch.bfloat16", 0.5), ("torch.float16", 0.1)]
)
def test_a_way_that_is_off_by_more_than_its_dtype_rounds_is_not_taken(dtype, within):
    assert choice_by_difference("llama", "auto", within * 0.99, dtype).engine == "auto"
    assert choice_by_difference("llama", "wavefront", within * 0.99, dtype).engine == "wavefront"
    assert choice_by_difference("llama", "auto", within * 1.01, dtype).engine == "rows"
    with pytest.raises(EngineError):
        choice_by_difference("llama", "wavefront", within * 1.01, dtype)


def test_the_plan_tells_a_passs_gigabytes():
    budget, plan = Budget(1 << 18, 1 << 26), ModelPlan(ModelSection(), FACTS, (), (), {}, (), {})
    gigabytes = cost_of(plan, "auto", budget).activation_gb
    assert gigabytes > 0.1 and gigabytes == pytest.approx(activation_floats(FACTS, budget) * 4 / 1024**3, abs=1e-3)
