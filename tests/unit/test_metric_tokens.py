"""Answers of several tokens: every metric's combination by answers, and against a loop where its formula is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchboard.measure.outcomes import combine
from patchboard.metrics import METRICS

LITERAL = {
    "accuracy": min,
    "conversion": min,
    "logprob": sum,
    "probability": lambda scores: math.exp(sum(scores)),
    "rank": lambda scores: scores[0],
    "kl": lambda scores: scores[0],
    "logit_difference": lambda scores: scores[0],
}


@pytest.mark.parametrize("name", [name for name in METRICS.names() if name in LITERAL])
@settings(max_examples=30)
@given(answers=st.lists(st.lists(st.integers(0, 3).map(float), min_size=1, max_size=4), min_size=1, max_size=6))
def test_each_answer_is_combined_by_itself(name, answers):
    """Neighbouring answers of one copy or of one prompt must not run into each other."""
    places = [(i // 2, i % 2, score) for i, answer in enumerate(answers) for score in answer]
    prompt, copy, scores = (np.array(column) for column in zip(*places, strict=True))
    table = combine(prompt.astype(int), copy.astype(int), {name: scores}, {0: 1.5})
    assert table[name].to_list() == pytest.approx([LITERAL[name](answer) for answer in answers])
    assert table.select("query", "copy").rows() == [(i // 2, i % 2) for i in range(len(answers))]
    assert [value == 1.5 for value in table["moved"]] == [i % 2 == 0 for i in range(len(answers))]


@pytest.mark.parametrize("name", METRICS.names())
@settings(max_examples=30)
@given(answers=st.lists(st.lists(st.integers(0, 3).map(float), min_size=1, max_size=4), min_size=1, max_size=4))
def test_an_answers_value_is_its_own(name, answers):
    """Whatever the formula: of many answers at once a metric gives what it gives of each alone."""
    combined = METRICS.get(name, "metrics").combine
    starts = np.cumsum([0, *map(len, answers)])[:-1]
    together = combined(np.array([score for answer in answers for score in answer]), starts)
    alone = [combined(np.array(answer), np.array([0]))[0] for answer in answers]
    np.testing.assert_array_equal(together, alone)
