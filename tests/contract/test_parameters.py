"""Every family's size, counted both ways, tied and untied, with weights and without."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from patchboard.engine.families import ARCHITECTURES
from patchboard.engine.parameters import counted
from tests.models import SIZES, random_model

LEARNED_POSITIONS = {"gpt2": SIZES["gpt2"]["n_positions"], "opt": SIZES["opt"]["max_position_embeddings"] + 2}
"""OPT leaves the first two unused. The other families' positions rotate, or there are none."""


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_familys_parameters_are_counted_once_and_told_apart(family, tied):
    model = random_model(family, tie_word_embeddings=tied)
    width, vocabulary = model.config.hidden_size, model.config.vocab_size
    positions = LEARNED_POSITIONS.get(family, 0)
    biases = 0 if model.get_output_embeddings().bias is None else vocabulary
    embedding = vocabulary * width * (1 if tied else 2) + positions * width + biases
    # a tied weight has two names and one place in memory
    places = {each.data_ptr(): each.numel() for name, each in model.state_dict().items() if name not in buffers(model)}
    assert counted(model) == {"parameters": sum(places.values()), "embedding_parameters": embedding}
    with torch.device("meta"):
        shell = AutoModelForCausalLM.from_config(model.config)
    assert counted(shell) == counted(model)


def buffers(model: torch.nn.Module) -> set[str]:
    return {name for name, _ in model.named_buffers()}
