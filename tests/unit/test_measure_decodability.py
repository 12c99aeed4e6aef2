"""CD against a literal leave-one-out search, on planted clusters, on noise, on duplicates."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from patchboard.errors import SpecError
from patchboard.measure.decodability import check_k, decodability_table, label_codes
from patchboard.measure.nearest import nearest, voted, votes
from patchboard.measure.statistics import Bootstrap
from patchboard.store.schema import DECODABILITY

BOOTSTRAP = Bootstrap(300, 0.95, 0)
LOPSIDED = ["AND"] * 25 + ["OR"] * 9 + ["XOR"] * 3 + ["Null"] * 11


def literal_vote(states: np.ndarray, labels: list[str], point: int, k: int) -> str:
    """Sort all other points by distance, count the first k, let the nearest of the tied decide."""
    others = [j for j in range(len(states)) if j != point]
    others.sort(key=lambda j: float(((states[j] - states[point]) ** 2).sum()))
    near = [labels[j] for j in others[:k]]
    most = max(Counter(near).values())
    return next(label for label in near if Counter(near)[label] == most)


def lopsided_states(rng: np.random.Generator, apart: float = 1.0) -> np.ndarray:
    centres = {label: apart * rng.normal(size=5) for label in dict.fromkeys(LOPSIDED)}
    return np.stack([centres[label] for label in LOPSIDED]) + rng.normal(size=(len(LOPSIDED), 5))


@pytest.mark.parametrize("k", [1, 2, 6, 10])
def test_votes_equal_a_literal_leave_one_out_search(k):
    states = lopsided_states(np.random.default_rng(k))
    labels = np.array(LOPSIDED)
    fast = votes(labels[neighbours(states, k)])
    assert fast.tolist() == [literal_vote(states, LOPSIDED, i, k) for i in range(len(states))]


def neighbours(states, k: int) -> np.ndarray:
    return nearest(torch.from_numpy(np.asarray(states)), k).numpy()


@pytest.mark.parametrize("points, width", [(30, 3), (1500, 24)])  # more than are searched at once
def test_neighbours_equal_scikit_learns(points, width):
    states = np.random.default_rng(points).normal(size=(points, width)) * np.logspace(0, 2, width)
    search = NearestNeighbors(n_neighbors=7).fit(states)
    np.testing.assert_array_equal(neighbours(states, 7), search.kneighbors(return_distance=False))


def test_autocast_does_not_reach_the_search():
    states = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))
    plain = nearest(states, 9)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest(states, 9), plain)


def test_among_equal_points_no_label_is_favoured():
    """States that tell the query alone: the same few points under every label."""
    rng = np.random.default_rng(6)
    points = rng.normal(size=(25, 8))
    labels = ["AND"] * 100 + ["OR"] * 100 + ["XOR"] * 100
    states = np.concatenate([points[rng.integers(25, size=100)] for _ in range(3)])
    own = voted(torch.from_numpy(states), torch.from_numpy(label_codes(labels)), 5).numpy() == label_codes(labels)
    assert all(0.1 < own[i : i + 100].mean() < 0.6 for i in (0, 100, 200))


def test_ties_go_to_the_nearest_of_the_tied():
    held = np.array([list("abba"), list("cabb"), list("cabd"), list("bcca"), list("abcc")])
    assert votes(held).tolist() == ["a", "b", "c", "c", "c"]
    assert votes(np.array([list("cabbac")])).tolist() == ["c"]  # two each: c is nearest
    assert votes(np.array([list("cabba")])).tolist() == ["a"]  # c is nearest but has one vote only


def test_a_point_is_never_its_own_neighbour_even_among_duplicates():
    states = np.repeat(np.random.default_rng(0).normal(size=(4, 3)), 6, axis=0)
    found = neighbours(states, 5)
    assert (found != np.arange(24)[:, None]).all()
    assert (found // 6 == np.arange(24)[:, None] // 6).all()  # the five copies, before anything else
    assert all(len(set(row)) == 5 for row in found.tolist())


def test_own_label_does_not_leak():
    """Every point's only near neighbours are of the other label: leave-one-out CD is 0, not 1."""
    pairs = np.repeat(np.arange(20.0) * 100, 2)[:, None] + np.tile([0.0, 1.0], 20)[:, None]
    labels = np.array(["AND", "OR"] * 20)
    assert (votes(labels[neighbours(pairs, 1)]) != labels).all()


def test_a_large_common_offset_in_float32_changes_nothing():
    """Some residual dimensions are hundreds of times the rest, at every point."""
    states = lopsided_states(np.random.default_rng(3)).astype(np.float32)
    shifted = states.copy()
    shifted[:, 2] += 4096.0
    states[:, 2] = shifted[:, 2] - 4096.0  # what float32 can hold beside that offset
    np.testing.assert_array_equal(neighbours(states, 10), neighbours(shifted, 10))


def test_too_few_points_are_refused():
    with pytest.raises(SpecError, match="decodability.k: 10 neighbours wanted, a point has 9 others") as raised:
        check_k(10, 10)
    assert raised.value.where == "decodability.k"
    check_k(9, 10)
    found = neighbours(np.zeros((10, 2)), 9)  # all of them equal
    assert all(sorted([*row, i]) == list(range(10)) for i, row in enumerate(found.tolist()))


def table_of(states: np.ndarray, labels: list[str], k: int = 10, accuracy=None) -> pl.DataFrame:
    found = voted(torch.from_numpy(states), torch.from_numpy(label_codes(labels)), k)[None, None]
    return decodability_table(found, labels, accuracy, [4], k, BOOTSTRAP)


def test_planted_clusters_are_fully_decodable():
    table = table_of(lopsided_states(np.random.default_rng(1), apart=50), LOPSIDED, k=2)
    assert table["task"].to_list() == ["AND", "OR", "XOR", "Null", "ALL"]
    assert (table["cd"] == 1).all() and (table["ci_low"] == 1).all()
    assert (table["chance"] == 0.25).all()
    assert table["n"].to_list() == [25, 9, 3, 11, 48]


def test_noise_is_at_chance():
    rng = np.random.default_rng(2)
    labels = [f"task {i % 7}" for i in range(1400)]
    row = table_of(rng.normal(size=(1400, 20)), labels).row(-1, named=True)
    assert abs(row["cd"] - 1 / 7) < 0.03  # standard error of a fraction of 1400: .0094
    assert row["ci_low"] < 1 / 7 < row["ci_high"]


def test_table_equals_plain_counting():
    rng = np.random.default_rng(4)
    shots, k = [0, 2], 5
    states = [[lopsided_states(rng, apart=0.6 * layer * s) for s in shots] for layer in range(3)]
    codes = torch.from_numpy(label_codes(LOPSIDED))
    found = [[voted(torch.from_numpy(each), codes, k).numpy() for each in row] for row in states]
    exact = (rng.random((len(LOPSIDED), 2)) < 0.4).astype(float)
    exact[np.array(LOPSIDED) == "Null"] = np.nan
    table = decodability_table(found, LOPSIDED, exact, shots, k, BOOTSTRAP)
    assert dict(table.schema) == DECODABILITY and len(table) == 5 * 3 * 2
    for row in table.iter_rows(named=True):
        at = states[row["layer"]][shots.index(row["shots"])]
        points = [i for i, label in enumerate(LOPSIDED) if row["task"] in (label, "ALL")]
        hits = [literal_vote(at, LOPSIDED, i, k) == LOPSIDED[i] for i in points]
        assert row["cd"] == pytest.approx(np.mean(hits)) and row["n"] == len(points) and row["k"] == k
        assert row["ci_low"] <= row["cd"] <= row["ci_high"]
        of_points = exact[points, shots.index(row["shots"])]
        if row["task"] == "Null":
            assert np.isnan(row["accuracy"])
        else:
            assert row["accuracy"] == pytest.approx(np.nanmean(of_points))


def test_without_accuracy_the_column_is_nan():
    table = table_of(lopsided_states(np.random.default_rng(5)), LOPSIDED)
    assert table["accuracy"].is_nan().all()
