"""What estimators reach that are given the same pairs: the lines that the model's error is held against."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, LinearRegression, Ridge

from patchboard.experiments.synthetic.settings import BaselinesSection
from patchboard.tasks.linear_regression import Mixture, Sequences

Floats = NDArray[np.float64]

BASELINES = ("least_squares", "ridge", "lasso", "mixture", "oracle")
_LEAST_VARIANCE = 1e-6
"""Of the noise, where it is 0: the covariance below must have an inverse."""


def baseline_errors(drawn: Sequences, mixture: Mixture, section: BaselinesSection) -> dict[str, Floats]:
    """Name -> squared errors [sequence, pair] of predicting each y from the pairs before it.

    least_squares: of least norm. ridge, lasso: as scikit-learn has them, without an intercept.
    oracle: the posterior mean of the sequence's own linear task, its coordinates known: ridge on these with the
    noise's variance as penalty. mixture: the same averaged over the tasks by their posterior, which is the best that
    can be done without being told the task. Tasks that are not linear have no place in these two; where the
    mixture has any, both are left out.
    """
    variance = max(mixture.noise**2, _LEAST_VARIANCE)
    estimators: dict[str, Callable[[], Any]] = {
        "least_squares": lambda: LinearRegression(fit_intercept=False),
        "ridge": lambda: Ridge(section.ridge, fit_intercept=False),
        "lasso": lambda: Lasso(section.lasso, fit_intercept=False),
    }
    count, pairs, inputs = drawn.x.shape
    linear = all(task.kind == "linear" for task in mixture.tasks)
    errors = {
        name: np.full((count, pairs), np.nan) for name in (*estimators, *(("mixture", "oracle") if linear else ()))
    }
    own = mixture.names.index(drawn.task)
    columns = [np.array(task.coordinates) for task in mixture.tasks]
    for i, (x, y) in enumerate(zip(drawn.x.astype(float), drawn.y.astype(float), strict=True)):
        for n in range(pairs):
            guesses = {name: _fitted(estimator, x[:n], y[:n], x[n]) for name, estimator in estimators.items()}
            if linear:
                means = [_fitted(lambda: Ridge(variance, fit_intercept=False), x[:n, c], y[:n], x[n, c])
                         for c in columns]  # fmt: skip
                guesses["oracle"] = means[own]
                guesses["mixture"] = float(posterior(x[:n], y[:n], mixture, variance) @ means)
            for name, guess in guesses.items():
                errors[name][i, n] = (guess - y[n]) ** 2
    return errors


def posterior(x: Floats, y: Floats, mixture: Mixture, variance: float) -> Floats:
    """[task] probability of each linear task, given pairs x [pair, inputs], y [pair].

    Under a task y ~ N(0, X_b X_b' + variance I), X_b the task's columns; all tasks are equally likely before.
    """
    if not len(y):
        return np.full(len(mixture.tasks), 1 / len(mixture.tasks))
    columns = [x[:, list(task.coordinates)] for task in mixture.tasks]
    evidence = [
        multivariate_normal.logpdf(y, cov=c @ c.T + variance * np.eye(len(y)))  # type: ignore[arg-type]
        for c in columns
    ]
    return softmax(evidence)


def _fitted(estimator: Callable[[], Any], x: Floats, y: Floats, query: Floats) -> float:
    """The prediction at ``query``; 0, the prior mean, before any pair."""
    if not len(y):
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # lasso on one pair: its error is what we ask for
        return float(estimator().fit(x, y).predict(query[None])[0])
