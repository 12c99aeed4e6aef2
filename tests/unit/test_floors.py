"""CD's floors against literal counting, and shuffled labels at chance where the true ones are told perfectly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from patchboard.measure.decodability import ALL, decodability_table, label_codes
from patchboard.measure.floors import FloorVotes, permutations
from patchboard.measure.nearest import nearest, shuffled_hits, voted
from patchboard.measure.statistics import Bootstrap, interval

BOOTSTRAP = Bootstrap(300, 0.95, 0)
LABELS = ["AND"] * 30 + ["OR"] * 20 + ["Null"] * 10
CODES = label_codes(LABELS)


def points(apart: float, seed: int = 0, labels: list[str] = LABELS) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    centres = {label: apart * rng.normal(size=6) for label in dict.fromkeys(labels)}
    return torch.from_numpy(np.stack([centres[label] for label in labels]) + rng.normal(size=(len(labels), 6)))


def test_above_twin_is_the_mean_of_paired_differences():
    k, cells = 4, [(0.4, 0.0), (0.8, 0.4)]  # how far labels lie apart in the model and in the twin, by layer
    codes = torch.from_numpy(CODES)
    own, twin = ([voted(points(pair[i], seed=i), codes, k).numpy()[None] for pair in cells] for i in (0, 1))
    table = decodability_table(own, LABELS, None, [4], k, BOOTSTRAP, FloorVotes(twin=np.array(twin)))
    for row in table.iter_rows(named=True):
        rows = [i for i, label in enumerate(LABELS) if row["task"] in (label, ALL)]
        hits, floor = ((each[row["layer"]][0][rows] == CODES[rows]).astype(float) for each in (own, twin))
        assert row["twin"] == pytest.approx(floor.mean()) and row["cd"] == pytest.approx(hits.mean())
        assert row["above_twin"] == pytest.approx(row["cd"] - row["twin"])
        low, high = interval((hits - floor)[:, None], BOOTSTRAP, [LABELS[i] for i in rows])
        assert (row["above_twin_low"], row["above_twin_high"]) == (low[0], high[0])
        assert row["twin_low"] <= row["twin"] <= row["twin_high"]


def test_a_difference_of_hits_that_go_together_is_narrower_than_of_two_samples():
    hits = (np.arange(60) % 2 == 0)[None, None]
    other = hits.copy()
    other[0, 0, :6] = False  # three hits of AND
    as_votes = lambda right: np.where(right, CODES, (CODES + 1) % 3)  # noqa: E731
    table = decodability_table(as_votes(hits), LABELS, None, [4], 4, BOOTSTRAP, FloorVotes(twin=as_votes(other)))
    row = table.filter(task=ALL).row(0, named=True)
    assert row["above_twin"] == pytest.approx(0.05)
    assert row["above_twin_high"] - row["above_twin_low"] < 0.6 * (row["ci_high"] - row["ci_low"])


def test_permutations_keep_the_labels_and_a_larger_count_begins_alike():
    drawn = permutations(CODES, 5, seed=3)
    assert (np.sort(drawn) == np.sort(CODES)).all() and (drawn != drawn[0]).any()
    assert (permutations(CODES, 2, seed=3) == drawn[:2]).all()
    assert permutations(CODES, 0, seed=3).shape == (0, 60)


def test_shuffled_hits_are_those_of_a_search_with_other_labels():
    states, drawn = points(1.0), permutations(CODES, 6, seed=1)
    found = shuffled_hits(nearest(states, 5).numpy(), drawn)
    for codes, hits in zip(drawn, found, strict=True):
        right = voted(states, torch.from_numpy(codes), 5).numpy() == codes
        assert hits.tolist() == [int((right & (codes == label)).sum()) for label in range(3)]


def test_shuffled_labels_are_at_chance_where_the_true_ones_are_told_perfectly():
    """Of seven labels, as many points each: the mean of many permutations is (n - 1) / (N - 1), a little below 1/7."""
    labels = [f"task {i // 40}" for i in range(280)]
    states, codes = points(50.0, labels=labels), label_codes(labels)
    found = nearest(states, 10).numpy()
    hits = shuffled_hits(found, permutations(codes, 60, seed=0))
    own = voted(states, torch.from_numpy(codes), 10).numpy()
    floors = FloorVotes(shuffled=hits[:, None, None])
    table = decodability_table(own[None, None], labels, None, [4], 10, BOOTSTRAP, floors)
    assert (table["cd"] == 1).all()
    assert ((table["shuffled_low"] < 1 / 7) & (1 / 7 < table["shuffled_high"])).all()
    overall = table.filter(task=ALL).row(0, named=True)
    spread = (hits.sum(1) / 280).std() / np.sqrt(60)
    assert abs(overall["shuffled"] - 39 / 279) < 4 * spread
    assert overall["shuffled_high"] < 0.25
