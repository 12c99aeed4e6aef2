"""Probes against theory, literal cross-validation and noise; folds that share no query."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from patchboard.errors import SpecError
from patchboard.measure.clusters import cluster_interval
from patchboard.measure.decodability import ALL, label_codes
from patchboard.measure.probe_table import Probed, probe_table
from patchboard.measure.probing import (
    Asked,
    control_task,
    cross_validated,
    folds_of,
    in_sample,
    in_span,
    random_features,
)
from patchboard.measure.statistics import Bootstrap, interval
from patchboard.plan.queries import query_groups
from patchboard.plan.validate import check_study
from patchboard.probes import FOLDS, PROBES
from patchboard.spec import study_of
from patchboard.spec.prompts import TemplateSection
from patchboard.store.schema import PROBED, TWIN
from patchboard.tasks.base import Item
from patchboard.tasks.prompts import Prompter
from tests.unit.test_twin import DEFAULT_DIGEST

BOOTSTRAP = Bootstrap(400, 0.95, 0)
ALL_PROBES = Asked(PROBES.names(), 10, 0)


def singly(count: int) -> np.ndarray:
    """Each point has a query of its own."""
    return np.arange(count)


def found(states, codes, queries=None, asked=ALL_PROBES) -> dict[str, np.ndarray]:
    """Probe -> [point] whether it is right, of points of other folds."""
    queries = singly(len(codes)) if queries is None else queries
    (given_,) = cross_validated(states, [codes], folds_of(codes, queries, asked.seed), asked)
    return {name: given_[i] == codes for i, name in enumerate(asked.probes)}


def test_on_two_gaussians_linear_probes_reach_the_best_accuracy_there_is():
    """Of distance D between means of a common covariance it is Phi(D / 2), reached by Fisher's direction."""
    rng, points, width = np.random.default_rng(0), 1600, 8
    codes = np.arange(points) % 2
    mixing, distance = rng.normal(size=(width, width)) + 2 * np.eye(width), 2.0
    whitened = rng.normal(size=(points, width)) + codes[:, None] * distance * np.eye(width)[0]
    states = whitened @ mixing.T
    best = ((whitened[:, 0] > distance / 2) == codes).mean()
    assert abs(best - norm.cdf(distance / 2)) < 4 * np.sqrt(0.16 * 0.84 / points)
    right = {name: hits.mean() for name, hits in found(states, codes).items()}
    assert abs(right["logistic"] - best) < 0.012 and abs(right["mass_mean"] - best) < 0.012, (right, best)
    assert right["knn"] < right["mass_mean"], "it spends points on directions that tell nothing"


def test_the_mlp_finds_xor_where_linear_probes_are_at_chance():
    rng = np.random.default_rng(1)
    signs = rng.choice([-1.0, 1.0], size=(600, 2))
    states = np.hstack([signs + 0.3 * rng.normal(size=(600, 2)), rng.normal(size=(600, 4))])
    right = {name: hits.mean() for name, hits in found(states, (signs.prod(1) > 0).astype(int)).items()}
    assert right["mlp"] > 0.85
    for name, probe in PROBES.items():
        assert not probe.linear or abs(right[name] - 0.5) < 0.07, name


@pytest.mark.parametrize("width", [6, 200], ids=["more points than numbers", "fewer"])
def test_noise_and_control_tasks_are_at_chance(width):
    """Three prompts a query, told by it alone: the labels that a query is given are not known of queries never seen."""
    rng, labels = np.random.default_rng(2), 5
    queries = np.repeat(np.arange(100), 3)
    states = rng.normal(size=(100, width))[queries] + 0.1 * rng.normal(size=(300, width))
    codes = rng.permutation(np.arange(300) % labels)
    tasks = [codes, *(control_task(queries, labels, n, 0) for n in range(6))]
    given_ = cross_validated(states, tasks, folds_of(codes, queries, 0), ALL_PROBES)
    for i, name in enumerate(PROBES):
        hits = np.stack([given_[n, i] == task for n, task in enumerate(tasks)])
        low, high = cluster_interval(hits[:1].T.astype(float), queries, BOOTSTRAP)
        assert low[0] < 1 / labels + 0.02 and high[0] > 1 / labels - 0.02, name
        assert abs(hits[1:].mean() - 1 / labels) < 0.06, (name, hits[1:].mean())


def test_without_held_out_queries_a_probe_would_know_control_tasks_by_heart():
    """What the folds are for: the same states and labels, parted by prompts."""
    queries = np.repeat(np.arange(100), 3)
    states = np.random.default_rng(3).normal(size=(100, 60))[queries]
    task = control_task(queries, 4, 0, 0)
    held, leaking = (found(states, task, q, Asked(["logistic"], 3, 0))["logistic"].mean() for q in (queries, None))
    assert leaking > 0.8 > 0.4 > held


def test_a_control_task_gives_a_query_one_label_and_labels_evenly():
    queries = np.random.default_rng(0).integers(20, size=90)
    queries = label_codes([str(q) for q in queries])
    drawn = [control_task(queries, 3, n, 7) for n in range(3)]
    for task in drawn:
        of_query = {(q, c) for q, c in zip(queries, task, strict=True)}
        assert len(of_query) == len(set(queries))
        assert np.ptp(np.bincount([c for _, c in of_query])) <= 1
    assert (drawn[0] != drawn[1]).any() and (drawn[0] == control_task(queries, 3, 0, 7)).all()


@settings(max_examples=40, deadline=None)
@given(
    numbers=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 11)), min_size=20, max_size=80),
    seed=st.integers(0, 2**63 - 1),
)
def test_folds_share_no_query_and_test_every_point_once(numbers, seed):
    codes = label_codes([str(label) for label, _ in numbers])
    queries = label_codes([str(query) for _, query in numbers])
    if len(set(queries)) < FOLDS or np.bincount(codes).max() < FOLDS:
        return
    folds = folds_of(codes, queries, seed)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(codes)))
    for train, test in folds:
        assert not set(queries[train]) & set(queries[test])
        assert len(train) + len(test) == len(codes) and len(test)
    assert all((a[1] == b[1]).all() for a, b in zip(folds, folds_of(codes, queries, seed), strict=True))


def test_the_fast_way_is_that_of_scikit_learn_by_hand():
    """No span, one probe and one labelling at a time, on fewer states than numbers."""
    rng = np.random.default_rng(4)
    codes, queries = np.arange(60) % 3, np.repeat(np.arange(20), 3)
    states = (3 * rng.normal(size=90) + 5) * (rng.normal(size=(60, 90)) + 0.8 * rng.normal(size=(3, 90))[codes])
    folds = folds_of(codes, queries, 0)
    asked = Asked(["logistic", "knn"], 4, 0)
    fast = cross_validated(states, [codes, codes[::-1]], folds, asked)
    for train, test in folds:
        scaler = StandardScaler().fit(states[train])
        a, b = scaler.transform(states[train]), scaler.transform(states[test])
        for task, given_ in zip((codes, codes[::-1]), fast, strict=True):
            by_hand = LogisticRegression(max_iter=200).fit(a, task[train]).predict(b)
            assert (given_[0, test] == by_hand).mean() > 0.9  # a point near a boundary may fall to either side
            distance = ((b[:, None] - a[None]) ** 2).sum(-1)
            votes = task[train][np.argsort(distance, axis=1)[:, :4]]
            assert (given_[1, test] == [np.bincount(vote).argmax() for vote in votes]).all()


def test_the_span_keeps_distances_between_states_that_were_fitted_on():
    rng = np.random.default_rng(5)
    train, test = rng.normal(size=(12, 40)), rng.normal(size=(3, 40))
    turned, tested = in_span(train, test)
    assert turned.shape == (12, 12) and tested.shape == (3, 12)
    scaled = StandardScaler().fit_transform(train)
    apart = lambda x: ((x[:, None] - x[None]) ** 2).sum(-1)  # noqa: E731
    assert np.allclose(apart(turned), apart(scaled))


def test_states_of_one_label_or_all_equal_are_no_error():
    codes = np.array([0] * 30 + [1] * 10)
    train = np.zeros((40, 50))
    given_ = in_sample(train, codes, Asked(PROBES.names(), 5, 0))
    assert (given_[list(PROBES).index("logistic")] == 0).all(), "the commoner one"
    assert (in_sample(train, np.zeros(40, dtype=int), ALL_PROBES) == 0).all()


def test_random_features_are_the_tokens_and_nothing_else():
    tokens = [[1, 2, 3], [3, 2, 1], [1, 1, 4]]
    features = random_features(tokens, 16, 0)
    assert np.allclose(features[0], features[1]) and not np.allclose(features[0], features[2])
    one = {t: random_features([[t], [1, 2, 3, 4]], 16, 0)[0] for t in (1, 2, 3, 4)}
    assert np.allclose(features[2], (2 * one[1] + one[4]) / 3)


def test_clusters_of_one_point_have_the_houses_interval_and_larger_ones_a_wider():
    values = np.random.default_rng(6).random((60, 3))
    plain = interval(values, BOOTSTRAP, ["queries"] * 60)
    assert np.allclose(plain, cluster_interval(values, np.arange(60), BOOTSTRAP))
    repeated = np.repeat(values, 4, axis=0)
    low, high = cluster_interval(repeated, np.repeat(np.arange(60), 4), BOOTSTRAP)
    assert np.allclose((low, high), plain), "four copies of a point tell no more than one"
    narrow = interval(repeated, BOOTSTRAP)
    assert ((high - low) > 1.7 * (narrow[1] - narrow[0])).all()


def test_the_table_counts_what_the_probes_gave():
    labels = ["a"] * 6 + ["b"] * 4
    codes, rng = label_codes(labels), np.random.default_rng(7)
    draw = lambda *shape: rng.integers(2, size=shape)  # noqa: E731
    probed = Probed(np.repeat(np.arange(5), 2), draw(2, 3, 10), rng.random((2, 3, 10)), draw(3, 10), draw(2, 3, 10))
    table = probe_table({4: probed}, ["x", "y", "z"], labels, BOOTSTRAP)
    assert table.columns == [*PROBED, *TWIN] and table.height == 3 * 2 * 3
    for row in table.iter_rows(named=True):
        points = [i for i, label in enumerate(labels) if row["task"] in (label, ALL)]
        probe = "xyz".index(row["probe"])
        hits = (probed.given == codes)[row["layer"], probe][points]
        control = probed.control[row["layer"], probe][points]
        assert row["accuracy"] == pytest.approx(hits.mean()) and row["n"] == len(points)
        assert row["shuffled"] == pytest.approx(control.mean())
        assert row["selectivity"] == pytest.approx((hits - control).mean())
        assert row["random_features"] == pytest.approx((probed.features == codes)[probe][points].mean())
        assert row["above_twin"] == pytest.approx(row["accuracy"] - row["twin"])
        low, high = cluster_interval(hits[:, None].astype(float), probed.queries[points], BOOTSTRAP)
        assert (row["ci_low"], row["ci_high"]) == (low[0], high[0])
        assert row["chance"] == 0.5


def test_queries_are_those_whose_answer_comes_next():
    from patchboard.embedded.tokenizer import build

    def item(text: str) -> Item:
        return Item(text, {"T": "1100"})

    prompter = Prompter(build(), TemplateSection())
    rows = [["0000", "0110", "1111"], ["0110", "0110", "0011"], ["0000", "1000", "1111"]]
    prompts = prompter.prompts("T", [[item(text) for text in row] for row in rows])
    assert not any(prompt.excluded for prompt in prompts), prompts[0].excluded
    assert query_groups(prompts, 0) == [0, 1, 0]
    assert query_groups(prompts, 1) == [0, 0, 1]
    assert query_groups(prompts, 2) == [0, 1, 0] == query_groups(prompts, 7)


def test_specs_without_probes_keep_their_digests():
    plain = study_of({})
    assert plain.digest == DEFAULT_DIGEST == study_of({"decodability": {"probes": []}}).digest
    asked = study_of({"decodability": {"probes": ["knn"]}})
    assert asked.digest != plain.digest and asked.tree["decodability"]["probes"] == ["knn"]
    assert study_of(asked.tree).digest == asked.digest


@pytest.mark.parametrize(
    ("section", "where", "what"),
    [
        ({"probes": ["logistik"]}, "decodability.probes[0]", "did you mean 'logistic'"),
        ({"probes": ["knn"], "prompts": 4}, "decodability.prompts", "in 5 folds"),
        ({"probes": ["knn", "knn"]}, "decodability.probes", ""),
    ],
)
def test_what_cannot_be_meant_is_refused(section, where, what):
    with pytest.raises(SpecError) as raised:
        check_study(study_of({"decodability": section}))
    assert raised.value.where.startswith(where) and what in str(raised.value)
