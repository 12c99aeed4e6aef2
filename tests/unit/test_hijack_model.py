"""The model against a literal one; a model written by hand must do, and be read to say, what was written into it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from patchboard.experiments.hijack.measures import score_prompts
from patchboard.experiments.hijack.memories import previous_up_to, read_memories, recall
from patchboard.experiments.hijack.model import TwoLayers
from patchboard.experiments.hijack.prompts import prompt_sets
from patchboard.experiments.hijack.settings import HijackSettings, Positions, Shape
from patchboard.tasks.bigram import draw_sequences, zipf_table
from tests.unit.hijack_by_hand import Planted, write_by_hand

POSITIONS: tuple[Positions, ...] = ("absolute", "rotary", "relative")
TABLE = zipf_table(vocab=9, common=6, strengths=[0.3, 0.9], exponent=1.0, seed=2)
SAME = torch.arange(9)
COPIER = Planted(output=SAME, match=SAME, bigram=torch.from_numpy(TABLE.usual))


def literal_logits(model: TwoLayers, tokens: list[int]) -> torch.Tensor:
    """The formula of the class, one query and key at a time, rotations as complex numbers."""
    shape = model.shape
    half = shape.width // 2

    def turned(vector: torch.Tensor, place: int) -> torch.Tensor:
        pairs = torch.complex(vector[:half], vector[half:])
        angles = torch.tensor([place * shape.rotary_base ** (-i / half) for i in range(half)])
        pairs = pairs * torch.exp(1j * angles)
        return torch.cat((pairs.real, pairs.imag))

    def normed(vector: torch.Tensor) -> torch.Tensor:
        return vector / vector.norm() if shape.norm else vector

    states = [model.embed[token] for token in tokens]
    if shape.positions == "absolute":
        assert model.places is not None
        states = [state + model.places[place] for place, state in enumerate(states)]
    for layer, value in enumerate((model.remap, model.output)):
        below, states = states, []
        for t, own in enumerate(below):
            query = normed(own)
            if shape.query == "learned":
                query = model.queries[layer] @ query
            scores = []
            for s in range(t + 1):
                key = model.keys[layer] @ normed(below[s])
                if shape.positions == "relative" and layer == 0:
                    assert model.places is not None
                    key = key + model.keys[layer] @ model.places[t - s]
                if shape.positions == "rotary" and layer in shape.rotary_layers:
                    scores.append(turned(query, t) @ turned(key, s))
                else:
                    scores.append(query @ key)
            weights = [math.exp(score) for score in scores]
            seen = [w / sum(weights) * (value @ normed(below[s])) for s, w in enumerate(weights)]
            states.append(own + torch.stack(seen).sum(0))
    out = []
    for state in states:
        if model.memory is not None:
            state = state + model.memory(normed(state))
        out.append(model.unembed @ normed(state))
    return torch.stack(out)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("query", ["identity", "learned"])
@pytest.mark.parametrize(("feed_forward", "norm"), [("none", False), ("linear", False), ("relu", True)])
@torch.no_grad()
def test_the_model_is_its_formula(positions, query, feed_forward, norm):
    shape = Shape(7, 8, positions, 12, query, feed_forward, norm, (), 30.0, (0, 1))
    model = TwoLayers(shape, seed=3).double()
    drawing = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # some start at zero, which would hide a term
        parameter.copy_(torch.randn(parameter.shape, dtype=torch.double, generator=drawing) / 2)
    tokens = [3, 1, 1, 6, 0, 3]
    found = model(torch.tensor([[5, 5, 5, 5, 5, 5], tokens]))[1]
    assert torch.allclose(found, literal_logits(model, tokens), atol=1e-10)


def test_the_same_seed_gives_the_same_random_parts():
    one, other = (TwoLayers(write_by_hand(p, 10, COPIER).shape, seed=5) for p in ("absolute", "rotary"))
    assert torch.equal(one.embed, other.embed) and torch.equal(one.unembed, other.unembed)
    shape = replace(one.shape, feed_forward="relu")
    same, again = TwoLayers(shape, seed=5).state_dict(), TwoLayers(shape, seed=5).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in same.items())


def test_what_is_frozen_is_not_learned():
    shape = replace(write_by_hand("absolute", 10, COPIER).shape, frozen=("remap",))
    model = TwoLayers(shape, seed=0)
    assert model.embed.requires_grad and model.places is not None and model.places.requires_grad
    assert not model.remap.requires_grad and model.output.requires_grad


@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_it_copies_whatever_was_shown(positions):
    model = write_by_hand(positions, 60, COPIER)
    drawn = draw_sequences(TABLE, triggers=2, count=200, length=60, rng=np.random.default_rng(0))
    answers = model(torch.from_numpy(drawn.tokens)).argmax(-1).numpy()
    # the first token has no predecessor, layer 1 leaves its own image there, and it looks like its own successor
    again = (drawn.occurrence[:, :-1] >= 2) & (drawn.tokens[:, :-1] != drawn.tokens[:, :1])
    assert again.sum() > 500
    assert (answers[:, :-1][again] == drawn.tokens[:, 1:][again]).all()


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("habit", [4.0, 16.0])
def test_its_margin_is_copy_minus_habit(positions, habit):
    spec = HijackSettings.model_validate(
        {
            "experiment": "hijack",
            "language": {"vocab": 9, "common": 6, "strengths": [0.3, 0.9], "triggers": 2},
            "training": {"length": 24},
            "prompts": {"each": 40, "counts": [1, 4], "distances": [2, 20], "lengths": [16, 50], "shown": 3},
        }
    )
    model = write_by_hand(positions, 50, replace(COPIER, habit=habit))
    for prompts in prompt_sets(spec, TABLE):
        found = score_prompts(model, prompts, TABLE, 2).filter(prompts.tokens[:, 0] != prompts.token)
        assert found["margin"].to_numpy() == pytest.approx(10.0 - habit, abs=1e-3)
        winner = found["copied"] if habit < 10 else found["usual"]
        assert (found["answer"] == winner).all(), "above 0 the context wins, below it the bigram"


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("back", [1, 3])
def test_the_memories_return_what_was_planted(positions, back):
    mixed = torch.Generator().manual_seed(8)
    output, match, bigram = (torch.randperm(9, generator=mixed) for _ in range(3))
    model = write_by_hand(positions, 30, Planted(output, match, bigram, back))
    found = read_memories(model, TABLE, trained_length=20)
    for memory, planted in {"output": output, "bigram": bigram}.items():
        assert found.filter(memory=memory)["returned"].to_list() == planted.tolist()
    # a query for i finds the key whose predecessor is match[i]
    assert found.filter(memory="match")["returned"].to_list() == match.tolist()
    previous = found.filter(memory="previous")
    assert previous["item"].to_list() == list(range(1, 30))
    assert previous["returned"].to_list()[back - 1 :] == list(range(30 - back))
    assert previous_up_to(found) == (29 if back == 1 else 1)  # at place 1 there is but one to look back to


def test_recall_counts_what_is_right_in_training_and_beyond():
    match = torch.tensor([0, 1, 2, 3, 5, 4, 6, 8, 7])  # of 6 common tokens 2 are swapped, of 3 others 2
    model = write_by_hand("absolute", 30, replace(COPIER, match=match))
    model.keys[0].data[:, -12:] = 0  # keys of the last places are lost
    found = read_memories(model, TABLE, trained_length=20)
    shares = {(each["memory"], each["trained"]): (each["right"], each["n"]) for each in recall(found)}
    assert shares["match", True] == (pytest.approx(4 / 6), 6)
    assert shares["match", False] == (pytest.approx(1 / 3), 3)
    assert shares["output", True] == (1.0, 9)
    assert shares["bigram", True] == (1.0, 9)
    lost = 30 - 12 + (9 * 3 + 30) % 2  # the width may be one more than the axes
    assert previous_up_to(found) == lost
    assert shares["previous", True] == (pytest.approx(lost / 19), 19)
    assert shares["previous", False] == (0.0, 10)
