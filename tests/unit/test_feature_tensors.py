"""Edits of features against SAELens' definition written out one state and one feature at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchboard.ops import OPS, FeatureTensors
from patchboard.vectors.dictionaries.activations import activations_of, mean_of, rate_of
from patchboard.vectors.dictionaries.choice import NEAREST, most_different, random_counterparts
from patchboard.vectors.dictionaries.dictionary import opened
from patchboard.vectors.dictionaries.weights import all_features, some_features
from patchboard.vectors.files.layout import operand_keys, operand_of, tensors_of
from tests.dictionaries import literal_sae, tensors, write_dictionary
from tests.unit.spec_trees import untimed

WIDTH, SIZE, ROWS = 10, 24, 6
KINDS = {
    "standard": {},
    "jumprelu": {"architecture": "jumprelu"},
    "topk": {"architecture": "topk", "k": 5},
    "topk in the length of the decoder": {"architecture": "topk", "k": 5, "rescale_acts_by_decoder_norm": True},
    "topk, more than are positive": {"architecture": "topk", "k": 20},
    "b_dec is not subtracted": {"apply_b_dec_to_input": False},
    "layer_norm": {"normalize_activations": "layer_norm"},
    "constant_norm_rescale": {"normalize_activations": "constant_norm_rescale", "architecture": "jumprelu"},
    "layer_norm and topk": {"normalize_activations": "layer_norm", "architecture": "topk", "k": 4},
}


def dictionary_of(folder, seed=0, **config):
    weights = tensors(WIDTH, SIZE, seed, threshold=config.get("architecture") == "jumprelu")
    dictionary, _ = opened(write_dictionary(folder, weights, **config), "v")
    return weights, dictionary


@pytest.fixture
def h():
    return torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1)) * 2


@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_saelens(kind, h, tmp_path):
    weights, dictionary = dictionary_of(tmp_path, **KINDS[kind])
    found, _ = all_features(dictionary).active(h)
    expected = torch.stack([literal_sae(weights, row, **KINDS[kind])[0] for row in h])
    torch.testing.assert_close(found, expected)
    assert 0.1 < (found > 0).float().mean() < 0.9, "a test of activations that are all on or all off tests nothing"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_edits_keep_the_reconstruction_error(kind, strength, h, tmp_path):
    """h' = decode(f') + (h - decode(f)), f' being f with the chosen features set to another value, at strength 1."""
    weights, dictionary = dictionary_of(tmp_path, **KINDS[kind])
    numbers, target = [7, 0, 19, 4], torch.tensor([2.0, 0.0, 1.0, 3.0])
    features = some_features(dictionary, numbers, target)
    for op, values in (("ablate", torch.zeros(4)), ("clamp_features", target)):
        expected = []
        for row in h:
            f, decode = literal_sae(weights, row, **KINDS[kind])
            changed = f.clone()
            changed[numbers] = values
            expected.append(row + strength * (decode(changed) + (row - decode(f)) - row))
        found = OPS.get(op, "op").apply(h, features, torch.full((ROWS, 1), strength))
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-5)
        assert torch.equal(found, h) == (strength == 0), "at strength 0 the state is itself, to the bit"


def test_a_centred_model_s_states_are_centred(h, tmp_path):
    """TransformerLens' center_writing_weights takes each state's own mean away, which the edit leaves where it was."""
    weights, dictionary = dictionary_of(tmp_path, model_from_pretrained_kwargs={"center_writing_weights": True})
    found, _ = all_features(dictionary).active(h)
    expected = torch.stack([literal_sae(weights, row - row.mean())[0] for row in h])
    torch.testing.assert_close(found, expected)


@untimed
@given(st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=8, unique=True), st.sampled_from(sorted(KINDS)))
def test_some_features_are_those_of_all(tmp_path_factory, numbers, kind):
    """Their activations and what they write, whichever are chosen, in the order they are named in."""
    weights, dictionary = dictionary_of(tmp_path_factory.mktemp("d"), **KINDS[kind])
    h = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(len(numbers)))
    every, some = all_features(dictionary), some_features(dictionary, numbers, torch.zeros(len(numbers)))
    torch.testing.assert_close(some.active(h)[0], every.active(h)[0][:, numbers])
    each = [some_features(dictionary, [n], torch.zeros(1)).part(h) for n in numbers]
    torch.testing.assert_close(some.part(h), torch.stack(each).sum(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_they_lie_in_a_run_s_file(kind, h, tmp_path):
    """All but the whole encoder of a top-k dictionary, which is the dictionary's own."""
    _, dictionary = dictionary_of(tmp_path, **KINDS[kind])
    features = some_features(dictionary, [3, 1], torch.tensor([1.0, 2.0]))
    stored = tensors_of("a/b/1", features)
    assert operand_keys(stored) == ["a/b/1"]
    assert sum(tensor.numel() for tensor in stored.values()) < WIDTH * 8 + SIZE
    found = operand_of("a/b/1", stored, stored.__getitem__)
    assert isinstance(found, FeatureTensors)
    if found.k:
        with pytest.raises(ValueError, match="whole encoder"):
            found.part(h)
        found.whole = features.whole
    assert torch.equal(found.part(h), features.part(h)) and torch.equal(found.lacking(h), features.lacking(h))


def test_a_whole_encoder_is_moved_once(tmp_path):
    _, dictionary = dictionary_of(tmp_path, architecture="topk", k=3)
    one, other = (some_features(dictionary, [n], torch.zeros(1)) for n in (1, 2))
    assert one.whole is other.whole and one.to("meta").whole is other.to("meta").whole
    assert one.to("cpu").whole is one.whole


def test_activations_of_fit_prompts(tmp_path):
    """Means, rates and largest, over more states than are encoded at once, against the plain ones."""
    _, dictionary = dictionary_of(tmp_path, architecture="jumprelu")
    every = all_features(dictionary)
    sets = [torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(rows)) for rows in (150, 3)]
    found = [activations_of(every, states) for states in sets]
    for states, told in zip(sets, found, strict=True):
        f = every.active(states)[0].double()
        torch.testing.assert_close(told.mean, f.mean(0))
        torch.testing.assert_close(told.rate, (f > 0).double().mean(0))
        torch.testing.assert_close(told.largest.double(), f.amax(0))
    every_f = every.active(torch.cat(sets))[0]
    torch.testing.assert_close(rate_of(found), (every_f > 0).double().mean(0))
    torch.testing.assert_close(mean_of(found), (found[0].mean + found[1].mean) / 2)


def test_the_largest_differences_are_chosen():
    first, second = torch.tensor([0.0, 5.0, 1.0, 3.0, 3.0]), torch.tensor([4.0, 0.0, 1.0, 0.0, 0.0])
    assert most_different(first, second, 4, "size") == [1, 0, 3, 4]
    assert most_different(first, second, 3, "rise") == [1, 3, 4]
    assert most_different(first, second, 2, "fall") == [0, 2]


def test_random_counterparts_are_active_about_as_often():
    rate = torch.linspace(0, 1, 101)
    chosen = [0, 50, 51, 100]
    draws = [random_counterparts(chosen, rate, torch.Generator().manual_seed(seed)) for seed in range(40)]
    for drawn in draws:
        assert len({*drawn, *chosen}) == 8, "others, and none twice"
        assert all(abs(rate[a] - rate[b]) < (NEAREST + 4) / 100 for a, b in zip(drawn, chosen, strict=True))
    assert len({drawn[0] for drawn in draws}) > 3 and draws[0] == random_counterparts(
        chosen, rate, torch.Generator().manual_seed(0)
    )
