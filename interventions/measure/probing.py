"""Probes fitted on states: cross-validated over queries, with the control task and random features beside them.

All probes and all labellings of one fold share its scaling and its turning into the span of the training states.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from patchboard.probes import FOLDS, PROBES

Codes = NDArray[np.int64]
"""[point] numbers of labels, from 0, or of queries."""
Fold = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Indices of points: fitted on, tested on."""

ROUNDING = 1e-3
"""Nats of log loss a point. After LEACE in float32 a logistic probe gained 1e-10 on the states that it was fitted on,
in bfloat16 up to 3e-4; any that told labels apart gained tenths."""

_CONTROL_SEED, _FEATURE_SEED = 1, 2


@dataclass(frozen=True)
class Asked:
    """probes: their names. k: neighbours that vote. seed: of folds, control tasks, random features and probes."""

    probes: Sequence[str]
    k: int
    seed: int


def folds_of(codes: Codes, queries: Codes, seed: int) -> list[Fold]:
    """FOLDS folds, labels in each as in all as far as that goes; points of one query are tested in the same fold.

    Needs FOLDS different queries.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label of fewer points than folds: of an excluded prompt
        parted = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed % 2**32)
        return list(parted.split(np.zeros((len(codes), 1)), codes, queries))


def control_task(queries: Codes, labels: int, permutation: int, seed: int) -> Codes:
    """[point] a label for each query that has nothing to do with it, the same for all of its points, labels about
    equally often (Hewitt & Liang 2019). The next permutation is another one."""
    count = int(queries.max()) + 1
    drawn = np.random.default_rng([seed, _CONTROL_SEED, permutation])
    return drawn.permutation(np.resize(np.arange(labels), count))[queries]


def random_features(tokens: Sequence[Sequence[int]], width: int, seed: int) -> NDArray[np.float64]:
    """[point, width] the mean over a prompt's tokens of a random Gaussian vector for each different token: what of a
    prompt can be told from which tokens stand in it, without any model. tokens: [point] up to the state's own."""
    different = sorted({token for ids in tokens for token in ids})
    vectors = np.random.default_rng([seed, _FEATURE_SEED]).standard_normal((len(different), width))
    place = {token: i for i, token in enumerate(different)}
    return np.stack([vectors[[place[token] for token in ids]].mean(axis=0) for ids in tokens])


def cross_validated(
    states: ArrayLike, labellings: Sequence[Codes], folds: Sequence[Fold], asked: Asked,
    step: Callable[[int], None] = lambda count: None,
) -> NDArray[np.int64]:  # fmt: skip
    """[labelling, probe, point] the label that a probe gives each point, of the fold whose training left it out.

    states: [point, d_model]. labellings: of the same points, each fitted by itself. step: told of each fold.
    """
    points = np.asarray(states, dtype=np.float64)
    found = np.empty((len(labellings), len(asked.probes), len(points)), dtype=np.int64)
    for train, test in folds:
        fitted, tested = in_span(points[train], points[test])
        for (i, codes), (j, name) in _pairs(labellings, asked.probes):
            found[i, j, test] = predicted(name, fitted, codes[train], tested, asked)
        step(1)
    return found


def in_sample(states: ArrayLike, codes: Codes, asked: Asked) -> NDArray[np.int64]:
    """[probe, point] the label that a probe gives each point that it was itself fitted on; codes: 0, 1, … all there.

    A probe whose log loss is that of the best constant (but for ROUNDING) gives the constant, the commonest label: it
    knows nothing of the states, and which of labels of equal shares it would name is rounding.
    """
    points = np.asarray(states, dtype=np.float64)
    whole, _ = in_span(points, points)
    return np.stack([_of_its_own(name, whole, codes, asked) for name in asked.probes])


def _of_its_own(probe: str, points: NDArray[np.float64], codes: Codes, asked: Asked) -> NDArray[np.int64]:
    shares = np.bincount(codes) / len(codes)
    constant = np.full(len(codes), shares.argmax())
    if (codes == codes[0]).all():
        return constant
    classifier = fitted_probe(probe, points, codes, asked)
    if hasattr(classifier, "predict_proba"):
        own = classifier.predict_proba(points)[np.arange(len(codes)), codes]
        gained = np.log(own.clip(min=1e-300)).mean() - (shares * np.log(shares)).sum()
        if abs(gained) < ROUNDING:
            return constant
    return classifier.predict(points)


def in_span(train: NDArray[np.float64], test: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both scaled by the training states' means and deviations; of fewer states than numbers, turned into the span of
    these, at most as many numbers as states.

    Nothing is lost to an l2-penalised linear probe, whose weights lie in the span, nor to neighbours: what a tested
    state has outside of it is as far from all training states.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    train, test = np.asarray(scaler.transform(train)), np.asarray(scaler.transform(test))
    if len(train) > train.shape[1]:
        return train, test
    with np.errstate(invalid="ignore"):  # states that are all equal have no variance to take a share of
        turned = PCA(svd_solver="full").fit(train)
    return np.asarray(turned.transform(train)), np.asarray(turned.transform(test))


def predicted(
    probe: str, fitted: NDArray[np.float64], codes: Codes, tested: NDArray[np.float64], asked: Asked
) -> NDArray[np.int64]:
    """[tested point] by a probe fitted on the others; where these are all of one label, that label."""
    if (codes == codes[0]).all():
        return np.full(len(tested), codes[0])
    return fitted_probe(probe, fitted, codes, asked).predict(tested)


def fitted_probe(probe: str, states: NDArray[np.float64], codes: Codes, asked: Asked) -> Any:
    """The probe's classifier, fitted on states of several labels."""
    from sklearn.exceptions import ConvergenceWarning

    classifier = PROBES.get(probe, "probes").classifier(min(asked.k, len(states)), asked.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # budgets are fixed
        return classifier.fit(states, codes)


def _pairs(labellings: Sequence[Codes], probes: Sequence[str]) -> Iterator[tuple[tuple[int, Codes], tuple[int, str]]]:
    return ((labelling, probe) for labelling in enumerate(labellings) for probe in enumerate(probes))
