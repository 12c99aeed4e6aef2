"""The states of a layer in two dimensions: on their principal axes, or by UMAP, with the paper's settings."""

from __future__ import annotations

import importlib
import warnings
from typing import Any, Literal, get_args

import polars as pl
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from patchboard.errors import SpecError
from patchboard.experiment.states import States
from patchboard.extras import require_extra

Method = Literal["pca", "umap"]
METHODS: tuple[Method, ...] = get_args(Method)

NEIGHBOURS, MIN_DIST = 15, 0.1
"""Of UMAP, as in arXiv 2412.12276."""

PROJECTION = {
    "method": pl.String(),  # one of METHODS
    "shots": pl.Int32(),
    "task": pl.String(),
    "point": pl.Int32(),  # among all points of all labels
    "x": pl.Float64(),  # pca: along this panel's first principal axis, in units of the state; umap: no unit
    "y": pl.Float64(),
    "x_share": pl.Float64(),  # pca: of the variance, that this axis holds; umap: null
    "y_share": pl.Float64(),
}


def check_method(method: Method, prompts: int) -> None:
    """Raises SpecError where UMAP is not installed, or a pair of tasks has no 15 neighbours. prompts: of a task."""
    if method == "pca":
        return
    require_extra("umap", SpecError, "--projection", "umap")
    if 2 * prompts <= NEIGHBOURS:
        what = f"{prompts} prompts a task are too few for UMAP's {NEIGHBOURS} neighbours"
        raise SpecError("decodability.prompts", what, f"use at least {NEIGHBOURS // 2 + 1}, or --projection pca")


def projected(states: States, layer: int, method: Method = "pca", seed: int = 0) -> pl.DataFrame:
    """PROJECTION: a layer's states in two dimensions, fitted anew for each number of shots. seed: of UMAP's draws."""
    panels = [_panel(states, layer, shots, method, seed) for shots in states.shots]
    return pl.concat(panels).select(pl.col(column).cast(kind) for column, kind in PROJECTION.items())


def _panel(states: States, layer: int, shots: int, method: Method, seed: int) -> pl.DataFrame:
    points = states.at(layer, shots).double().numpy()
    placed, shares = _on_axes(points) if method == "pca" else (_by_umap(points, seed), (None, None))
    return pl.DataFrame({"task": list(states.labels), "x": placed[:, 0], "y": placed[:, 1]}).with_columns(
        pl.lit(method).alias("method"), pl.lit(shots).alias("shots"), pl.int_range(pl.len()).alias("point"),
        pl.lit(shares[0]).alias("x_share"), pl.lit(shares[1]).alias("y_share"),
    )  # fmt: skip


def _on_axes(points: NDArray[Any]) -> tuple[NDArray[Any], tuple[float, float]]:
    """([point, 2], share of the variance that each axis holds)."""
    pca = PCA(n_components=2, svd_solver="full")
    placed = pca.fit_transform(points)
    first, second = pca.explained_variance_ratio_
    return placed, (first, second)


def _by_umap(points: NDArray[Any], seed: int) -> NDArray[Any]:
    """[point, 2]; the same for the same seed, which takes a single thread."""
    with warnings.catch_warnings():
        # on what does not concern a picture: tensorflow is not there; twins among the points spoil its favourite start
        warnings.simplefilter("ignore")
        umap = importlib.import_module("umap")
        return umap.UMAP(n_neighbors=NEIGHBOURS, min_dist=MIN_DIST, random_state=seed, n_jobs=1).fit_transform(points)
