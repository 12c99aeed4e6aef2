"""Loss, curves and measures against literal ones; a killed training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from patchboard.errors import RunFolderError
from patchboard.experiments.hijack.measures import _binned, by_place, margins
from patchboard.experiments.hijack.memories import read_memories, recall
from patchboard.experiments.hijack.model import TwoLayers
from patchboard.experiments.hijack.models import TrainedModel, language_of
from patchboard.experiments.hijack.settings import HijackSettings, Shape, TrainingSection
from patchboard.experiments.hijack.tables import OUTCOMES
from patchboard.experiments.hijack.training import loss_of, probed, schedule, train
from patchboard.measure.statistics import Bootstrap
from patchboard.tasks.bigram import draw_sequences, zipf_table
from tests.unit.hijack_by_hand import Planted, write_by_hand

TABLE = zipf_table(vocab=9, common=6, strengths=[0.3, 0.9], exponent=1.0, seed=2)
SHAPE = Shape(9, 16, "absolute", 40, "learned", "linear", False, ("embeddings", "remap"), 1e4, (0, 1))
SMALL = TrainingSection(length=20, batch=4, steps=10, learning_rate=0.01, checkpoint=3)


@pytest.mark.parametrize("which", ["all", "repeats"])
def test_the_loss_counts_what_it_says(which):
    drawn = draw_sequences(TABLE, triggers=2, count=5, length=24, rng=np.random.default_rng(0))
    model = TwoLayers(SHAPE, seed=1)
    logits = model(torch.from_numpy(drawn.tokens)).tolist()
    terms = []
    for row, (tokens, triggers) in enumerate(zip(drawn.tokens.tolist(), drawn.triggers.tolist(), strict=True)):
        for place in range(23):
            before = tokens[: place + 1]
            if which == "all" or (tokens[place] in triggers and before.count(tokens[place]) >= 2):
                scores = logits[row][place]
                terms.append(math.log(sum(map(math.exp, scores))) - scores[tokens[place + 1]])
    assert loss_of(model, drawn, which).item() == pytest.approx(sum(terms) / len(terms), abs=1e-5)


def test_a_perfect_copier_is_seen_as_one():
    same = torch.arange(9)
    model = write_by_hand("absolute", 40, Planted(same, same, torch.from_numpy(TABLE.usual)))
    drawn = draw_sequences(TABLE, triggers=2, count=50, length=40, rng=np.random.default_rng(0))
    found = probed(model, drawn)
    first_again = (drawn.occurrence[:, :-1] >= 2) & (drawn.tokens[:, :-1] == drawn.tokens[:, :1])
    assert 1 - first_again.sum() / (drawn.occurrence[:, :-1] >= 2).sum() <= found["copied"] <= 1
    assert found["previous"] == pytest.approx(1.0)
    places = by_place(model, drawn, 8, Bootstrap(200, 0.95, 0)).filter(quantity="previous")
    assert places["place"].to_list() == [0, 8, 16, 24, 32]
    assert places["value"].to_numpy() == pytest.approx(1.0)
    model.keys[0].data.zero_()  # attends to all places alike
    places = by_place(model, drawn, 8, Bootstrap(200, 0.95, 0)).filter(quantity="previous")
    literal = []
    for start in range(0, 40, 8):
        by_sequence = []
        for occurrence in drawn.occurrence.tolist():
            behind = [1 / (place + 1) for place in range(max(1, start), start + 8) if occurrence[place - 1]]
            by_sequence += [np.mean(behind)] if behind else []
        literal.append(np.mean(by_sequence))
    assert places["value"].to_numpy() == pytest.approx(literal)


def test_bins_are_means_of_what_is_there():
    values = np.array([[1.0, np.nan, 0.0, 1.0, np.nan], [np.nan, np.nan, 1.0, np.nan, np.nan]])
    found = _binned("copied", values, 2, Bootstrap(500, 0.95, 0))
    assert found["place"].to_list() == [0, 2], "the last bin has nothing"
    assert found["value"].to_list() == [1.0, 0.75], "each sequence weighs the same"
    assert found["ci_low"].to_list() == [1.0, 0.5] and found["ci_high"].to_list() == [1.0, 1.0]


def test_margins_are_means_over_prompts_with_their_intervals():
    rng = np.random.default_rng(0)
    strength, usual = np.array([0.3, 0.9] * 30), np.full(60, 7)
    parts = []
    for count in (0, 2):
        columns = dict.fromkeys(OUTCOMES, 0) | {"kind": "count", "count": count, "length": 20}
        varied = {
            "prompt": np.arange(60), "strength": strength, "usual": usual, "margin": rng.normal(count, 1 + strength),
            "answer": rng.choice([0, 7, 8], size=60),
        }  # fmt: skip
        frame = pl.DataFrame(varied).with_columns(*(pl.lit(v).alias(k) for k, v in columns.items() if k not in varied))
        parts.append(frame.select(*OUTCOMES).cast(OUTCOMES))  # type: ignore[arg-type]
    outcomes = pl.concat(parts)
    found = margins(outcomes, Bootstrap(4000, 0.95, 0))
    assert found["strength"].to_list() == [None, None, 0.3, 0.3, 0.9, 0.9]
    for row in found.iter_rows(named=True):
        mine = [
            each for each in outcomes.iter_rows(named=True)
            if each["count"] == row["count"] and row["strength"] in (None, each["strength"])
        ]  # fmt: skip
        values = np.array([each["margin"] for each in mine])
        assert row["n"] == len(mine) and row["margin"] == pytest.approx(values.mean())
        assert row["copied"] == pytest.approx(np.mean([each["answer"] == 0 for each in mine]))
        assert row["hijacked"] == pytest.approx(np.mean([each["answer"] == 7 for each in mine]))
        error = values.std() / len(mine) ** 0.5
        assert row["ci_high"] - row["ci_low"] == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_the_rate_rises_then_falls_as_a_cosine():
    """Straight up over 50 steps, times a cosine from 1 to a twentieth."""
    assert [schedule(step, 2000) / schedule(49, 2000) for step in (0, 24)] == pytest.approx([0.02, 0.5], rel=2e-3)
    assert [schedule(step, 2000) for step in (50, 1000, 2000)] == pytest.approx([1.0, 0.525, 0.05], abs=2e-3)
    assert max(schedule(step, 2000) for step in range(2000)) <= 1


def test_gradients_are_clipped_to_a_norm_of_one(tmp_path):
    """At a loss that is far too large, as the logits are scaled up by a hundred."""
    model = TwoLayers(SHAPE, seed=1)
    with torch.no_grad():
        model.output.mul_(100)
    norms = []

    def seen(optimiser, *_):
        grads = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        norms.append(torch.stack([grad.norm() for grad in grads]).norm().item())

    watched = register_optimizer_step_pre_hook(seen)
    try:
        train(model, TABLE, 2, SMALL.model_copy(update={"steps": 3}), 7, tmp_path / "c.pt")
    finally:
        watched.remove()
    assert norms == pytest.approx([1.0] * 3, abs=1e-3)


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_bit(tmp_path):
    def trained(path: Path, kill_at: int | None = None) -> tuple[TwoLayers, pl.DataFrame]:
        def tick(done: int, of: int) -> None:
            if done == kill_at:
                raise Killed

        model = TwoLayers(SHAPE, seed=1)
        return model, train(model, TABLE, 2, SMALL, 7, path, tick)

    whole, curve = trained(tmp_path / "whole.pt")
    with pytest.raises(Killed):
        trained(tmp_path / "killed.pt", kill_at=5)
    resumed, again = trained(tmp_path / "killed.pt")
    assert curve["step"].to_list() == [3, 6, 9, 10]
    assert again.equals(curve)
    start = TwoLayers(SHAPE, seed=1).state_dict()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
    assert not torch.equal(start["output"], whole.output) and torch.equal(start["embed"], whole.embed)
    (tmp_path / "killed.pt").write_bytes(b"half")
    with pytest.raises(RunFolderError, match="killed.pt"):
        trained(tmp_path / "killed.pt")


@pytest.mark.slow
def test_a_small_model_learns_to_copy_and_its_memories_say_so(tmp_path):
    settings = HijackSettings.model_validate(
        {"experiment": "hijack", "language": {"vocab": 20, "common": 12, "triggers": 3}}
    )
    training = TrainingSection(length=32, batch=64, steps=300, checkpoint=300)
    table = language_of(settings)
    shape = Shape(20, 64, "relative", 64, "learned", "linear", False, ("remap",), 1e4, (0, 1))
    model = TwoLayers(shape, seed=0)
    fresh = probed(model, draw_sequences(table, 3, 256, 33, np.random.default_rng(5)))
    curve = train(model, table, 3, training, 0, tmp_path / "parts.pt")
    assert fresh["copied"] < 0.15
    assert curve["copied"][-1] > 0.5

    right = {
        each["memory"]: float(each["right"]) for each in recall(read_memories(model, table, 32)) if each["trained"]
    }
    assert right["output"] > 0.9 and right["match"] > 0.9 and right["bigram"] > 0.9
    assert TrainedModel("relative", 0, model, curve).named(curve)["positions"][0] == "relative"
