"""The bigram language, the prompts made of it and the observer who knows it, against literal slow versions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchboard.experiments.hijack.prompts import filled, pair_places, prompt_sets
from patchboard.experiments.hijack.settings import HijackSettings
from patchboard.tasks.bigram import BigramTable, draw_sequences, ideal_margin, zipf_table

TABLE = zipf_table(vocab=11, common=5, strengths=[0.2, 0.8], exponent=1.3, seed=4)


def test_a_table_deals_out_its_strengths():
    assert TABLE.probabilities.sum(axis=1) == pytest.approx(np.ones(11))
    assert TABLE.probabilities.min() > 0
    assert sorted(TABLE.usual) == list(range(11))
    for token in range(11):
        assert TABLE.usual[token] != token
        assert TABLE.probabilities[token, TABLE.usual[token]] == TABLE.strength[token]
        assert (TABLE.usual[token] < 5) == (token < 5), "usual successors of common tokens are common"
        rest = np.delete(TABLE.probabilities[token], TABLE.usual[token])
        assert (np.diff(rest) < 0).all(), "popularity falls with the token's number"
        kept = np.delete(np.arange(1, 12), TABLE.usual[token]) ** -1.3
        assert rest / rest.sum() == pytest.approx(kept / kept.sum())
    assert sorted(Counter(TABLE.strength[:5]).values()) == [2, 3]


def test_triggers_give_their_outputs_and_are_counted():
    drawn = draw_sequences(TABLE, triggers=3, count=60, length=40, rng=np.random.default_rng(0))
    again = 0
    for tokens, occurrence, triggers, outputs in zip(
        drawn.tokens, drawn.occurrence, drawn.triggers, drawn.outputs, strict=True
    ):
        output_of = dict(zip(triggers.tolist(), outputs.tolist(), strict=True))
        assert len(output_of) == 3 and max(output_of) < 5
        assert all(trigger != output for trigger, output in output_of.items())
        seen: Counter[int] = Counter()
        for place, token in enumerate(tokens.tolist()):
            seen[token] += 1
            assert occurrence[place] == (seen[token] if token in output_of else 0)
            if token in output_of and place + 1 < len(tokens):
                assert tokens[place + 1] == output_of[token]
            again += occurrence[place] >= 2
    assert again > 100, "hardly a trigger stands twice: the loss would see nothing"


def test_other_tokens_follow_the_table():
    drawn = draw_sequences(TABLE, triggers=2, count=3000, length=30, rng=np.random.default_rng(1))
    before, after = drawn.tokens[:, :-1], drawn.tokens[:, 1:]
    free = drawn.occurrence[:, :-1] == 0
    for token in range(11):
        following = after[free & (before == token)]
        found = np.bincount(following, minlength=11) / len(following)
        deviation = np.sqrt(TABLE.probabilities[token] * (1 - TABLE.probabilities[token]) / len(following))
        assert (np.abs(found - TABLE.probabilities[token]) < 5 * deviation + 1e-9).all()
    share = np.bincount(drawn.triggers.ravel(), minlength=11) / 3000
    assert share[:5] == pytest.approx(2 / 5, abs=0.05) and not share[5:].any()
    assert np.bincount(drawn.outputs.ravel(), minlength=11) / 6000 == pytest.approx(1 / 11, abs=0.02)


def literal_margin(table: BigramTable, triggers: int, token: int, copied: int, count: int) -> float:
    """Bayes' rule over every thing the prompt may be: no trigger, or a trigger of each possible output."""
    prior = triggers / table.common
    weights: dict[int | None, float] = {None: (1 - prior) * table.probabilities[token, copied] ** count}
    for output in range(table.vocab):
        if output != token:
            weights[output] = prior / (table.vocab - 1) * float(output == copied) ** count
    total = sum(weights.values())

    def chance(following: int) -> float:
        bigram = weights[None] / total * table.probabilities[token, following]
        return bigram + weights.get(following, 0.0) / total

    return float(np.log(chance(copied)) - np.log(chance(int(table.usual[token]))))


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_knowing_observer_follows_bayes(count):
    pairs = [(a, b) for a in range(5) for b in range(11) if b not in (a, TABLE.usual[a])]
    token, copied = np.array(pairs).T
    found = ideal_margin(TABLE, 2, token, copied, np.full(len(pairs), count))
    assert found == pytest.approx([literal_margin(TABLE, 2, a, b, count) for a, b in pairs])


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 6), st.integers(0, 20), st.integers(0, 1000))
def test_pairs_never_overlap_and_the_token_stands_nowhere_else(count, spare, seed):
    rng = np.random.default_rng(seed)
    length = 2 * count + 1 + spare
    places = pair_places(7, count, length - 1, rng)
    token, copied = rng.integers(0, 5, size=7), rng.integers(5, 11, size=7)
    tokens = filled(TABLE, token, copied, places, length, rng)
    for row, a, b in zip(tokens, token, copied, strict=True):
        assert row[-1] == a
        at = np.flatnonzero(row[:-1] == a)
        assert len(at) == count
        assert (row[at + 1] == b).all()


def test_every_layout_of_pairs_is_as_likely():
    places = pair_places(6000, 2, 6, np.random.default_rng(0))
    found = Counter(map(tuple, places.tolist()))
    assert set(found) == {(0, 2), (0, 3), (0, 4), (1, 3), (1, 4), (2, 4)}
    assert min(found.values()) > 850


def test_settings_of_prompts_are_kept():
    asked = {"each": 30, "counts": [0, 3], "distances": [2, 9], "lengths": [12, 40], "shown": 2}
    spec = HijackSettings.model_validate({"experiment": "hijack", "training": {"length": 24}, "prompts": asked})
    table = zipf_table(65, 20, spec.language.strengths, 1.0, 0)
    sets = list(prompt_sets(spec, table))
    assert [(each.kind, each.count, each.distance, each.length) for each in sets] == [
        ("count", 0, 0, 24), ("count", 3, 0, 24), ("distance", 1, 2, 24), ("distance", 1, 9, 24),
        ("near", 2, 0, 12), ("spread", 2, 0, 12), ("near", 2, 0, 40), ("spread", 2, 0, 40),
    ]  # fmt: skip
    for each in sets:
        assert (each.token == sets[0].token).all() and (each.copied == sets[0].copied).all()
        assert ((each.copied != each.token) & (each.copied != each.usual) & (each.token < 20)).all()
        if each.distance:
            assert (each.tokens[:, -1 - each.distance] == each.token).all()
        if each.kind == "near":
            assert not (each.tokens[:, : each.length - 12] == each.token[:, None]).any()
