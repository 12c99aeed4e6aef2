"""CD against a slow literal kNN with the tie rule, planted clusters and noise."""

from collections import Counter

import numpy as np
import pytest

from interventions.errors import SpecError
from interventions.measure.decodability import decodability_table, neighbours, votes
from interventions.measure.effects import Bootstrap


def literal_vote(states, labels, point, k):
    """Nearest k others by Euclidean distance; most frequent label; among tied ones the nearest's."""
    others = sorted((j for j in range(len(states)) if j != point), key=lambda j: float(((states[j] - states[point]) ** 2).sum()))[:k]
    counts = Counter(labels[j] for j in others)
    most = max(counts.values())
    return next(labels[j] for j in others if counts[labels[j]] == most)


@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_equals_the_literal_definition(k):
    rng = np.random.default_rng(k)
    states = rng.normal(size=(45, 6))
    labels = np.array([0] * 25 + [1] * 13 + [2] * 7)  # lopsided, and even k gives many ties
    fast = votes(labels[neighbours(states, k)])
    assert fast.tolist() == [literal_vote(states, labels, i, k) for i in range(45)]


def test_a_point_is_no_neighbour_of_itself_even_among_duplicates():
    found = neighbours(np.zeros((6, 3)), 3)
    assert all(i not in row for i, row in enumerate(found))


def table(states, labels, k=5, shots=(0, 1)):
    found = np.stack([[neighbours(s, k) for s in layer] for layer in states])
    accuracy = np.tile([0.0, 1.0], (len(labels), 1))
    return decodability_table(found, labels, accuracy, shots, Bootstrap(500, 0.95, 0))


def test_planted_clusters_are_decoded_and_noise_is_not():
    rng = np.random.default_rng(0)
    labels = [name for name in "abcd" for _ in range(60)]
    centres = np.repeat(np.eye(4) * 20, 60, axis=0)
    noise = rng.normal(size=(240, 4))
    rows = table(np.stack([[noise, noise], [noise, noise + centres]]), labels)
    cd = {(r["layer"], r["shots"]): r for r in rows.iter_rows(named=True) if r["task"] == "ALL"}
    assert cd[1, 1]["cd"] == 1.0
    assert cd[0, 0]["ci_low"] < cd[0, 0]["chance"] + 0.03 and abs(cd[0, 0]["cd"] - 0.25) < 0.08
    assert cd[0, 0]["chance"] == 0.25 and cd[0, 0]["n"] == 240
    assert (cd[0, 0]["accuracy"], cd[0, 1]["accuracy"]) == (0.0, 1.0)


def test_overall_cd_is_the_mean_over_points():
    rng = np.random.default_rng(1)
    labels = ["a"] * 50 + ["b"] * 10
    rows = table(rng.normal(size=(1, 2, 60, 3)), labels)
    at = {r["task"]: r["cd"] for r in rows.filter(rows["shots"] == 0).iter_rows(named=True)}
    assert at["ALL"] == pytest.approx((50 * at["a"] + 10 * at["b"]) / 60)


def test_too_many_neighbours_are_refused():
    with pytest.raises(SpecError, match=r"decodability.k: 6 neighbours of 6 points; use at most 5"):
        neighbours(np.zeros((6, 2)), 6)
