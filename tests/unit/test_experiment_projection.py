"""States in two dimensions: principal axes against a literal decomposition, UMAP against planted groups."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from patchboard.errors import SpecError
from patchboard.experiment.projection import MIN_DIST, NEIGHBOURS, PROJECTION, check_method, projected
from tests.scripts import ran

ROOT = Path(__file__).parents[2]
LABELS = ("AND",) * 30 + ("OR",) * 24 + ("XOR",) * 18
needs_umap = pytest.mark.skipif(
    importlib.util.find_spec("umap") is None, reason='umap-learn is not installed: pip install -e ".[umap]"'
)


class Planted:
    """Groups of points: one heap at 0 shots, apart from each other at 4."""

    labels, shots = LABELS, (0, 4)

    def __init__(self, apart: float = 8.0):
        rng = np.random.default_rng(0)
        centres = {label: rng.normal(size=12) for label in dict.fromkeys(LABELS)}
        noise = rng.normal(size=(2, len(LABELS), 12))
        self.points = {
            shots: noise[i] + apart * bool(shots) * np.stack([centres[label] for label in LABELS])
            for i, shots in enumerate(self.shots)
        }

    def at(self, layer: int, shots: int) -> torch.Tensor:
        assert layer == 3
        return torch.from_numpy(self.points[shots]).float()


def own_share(table: pl.DataFrame, shots: int) -> float:
    """Of the points, those whose nearest other point in the picture is of their own task."""
    part = table.filter(pl.col("shots") == shots).sort("point")
    places, tasks = part.select("x", "y").to_numpy(), part["task"].to_list()
    right = 0
    for i in range(len(tasks)):
        others = [j for j in range(len(tasks)) if j != i]
        right += tasks[min(others, key=lambda j: float(((places[i] - places[j]) ** 2).sum()))] == tasks[i]
    return right / len(tasks)


def test_principal_axes_are_those_of_a_literal_decomposition():
    states = Planted()
    table = projected(states, 3)
    assert table.schema == PROJECTION and set(table["method"]) == {"pca"}
    for shots in states.shots:
        part = table.filter(pl.col("shots") == shots)
        centred = states.points[shots].astype(np.float32).astype(float)
        centred = centred - centred.mean(0)
        variances, axes = np.linalg.eigh(centred.T @ centred)
        for column, axis in (("x", -1), ("y", -2)):
            along = centred @ axes[:, axis]
            found = part[column].to_numpy()
            assert np.allclose(found, along) or np.allclose(found, -along)
            assert part[f"{column}_share"][0] == pytest.approx(variances[axis] / variances.sum())
    assert own_share(table, 0) < 0.7 < own_share(table, 4)


@needs_umap
@pytest.mark.slow  # umap-learn compiles itself for half a minute
@pytest.mark.filterwarnings("error")
def test_umap_keeps_planted_groups_together_and_its_seed():
    states = Planted()
    table = projected(states, 3, "umap", seed=1)
    assert table.schema == PROJECTION and set(table["method"]) == {"umap"}
    assert table["x_share"].null_count() == table["y_share"].null_count() == table.height == 2 * len(LABELS)
    assert own_share(table, 4) == 1 and own_share(table, 0) < 0.7, "no groups are made where there are none"
    assert table.equals(projected(states, 3, "umap", seed=1))
    assert not table.equals(projected(states, 3, "umap", seed=2))


@needs_umap
@pytest.mark.slow
def test_umap_is_asked_with_the_papers_settings(monkeypatch):
    import umap

    asked = []

    class Noted(umap.UMAP):
        def __init__(self, **settings):
            asked.append(settings)
            super().__init__(**settings)

    monkeypatch.setattr(umap, "UMAP", Noted)
    projected(Planted(), 3, "umap")
    assert (NEIGHBOURS, MIN_DIST) == (15, 0.1)
    assert [(each["n_neighbors"], each["min_dist"]) for each in asked] == [(15, 0.1)] * 2


def test_too_few_points_for_its_neighbours_are_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(SpecError, match="7 prompts a task are too few .* use at least 8"):
        check_method("umap", 7)
    check_method("umap", 8)
    check_method("pca", 1)


def script(*arguments: object) -> tuple[int, str, str]:
    """(status, output, errors)"""
    return ran("decodability.py", *arguments)


def test_umap_that_is_not_installed_is_one_line_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, found=importlib.util.find_spec: None if name == "umap" else found(name)
    )
    status, output, error = script("--projection", "umap", "--out", tmp_path / "run")
    assert (status, output) == (2, "") and not (tmp_path / "run").exists()
    assert error.startswith("error: --projection: umap needs the package umap, which is not installed here; ")


@pytest.mark.slow
def test_another_projection_has_a_folder_of_its_own_and_the_same_one_is_not_drawn_again(tmp_path, monkeypatch):
    """UMAP's place is taken by a turn of the axes, which compiles nothing."""
    from patchboard.experiment import projection

    monkeypatch.setattr("patchboard.experiments.decodability.experiment.check_method", lambda method, prompts: None)
    monkeypatch.setattr(projection, "_by_umap", lambda points, seed: points[:, :2] * (seed + 1))
    run = tmp_path / "run"
    asked = (
        "--tasks.only=[AND, OR]", "--tasks.include_null=false", "--decodability.k=2", "--decodability.prompts=4",
        "--decodability.shots=[0, 1]", "--prompts.shots=1", "--statistics.bootstrap=100", "--statistics.seed=4",
        "--wandb", "off", "--out", run,
    )  # fmt: skip

    def written() -> dict[Path, int]:
        return {each: each.stat().st_mtime_ns for each in run.rglob("*") if each.is_file()}

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    assert script(*asked)[0] == 0
    assert set(pl.read_parquet(run / "experiment" / "projection.parquet")["method"]) == {"pca"}
    assert "on two principal axes" in (run / "experiment" / "report.html").read_text()
    first = written()
    with monkeypatch.context() as patched:
        patched.setattr("patchboard.experiments.decodability.experiment.Decodability.summarise", stopped)
        assert script(*asked, "--projection", "umap")[0] == 130
    assert script(*asked, "--projection", "umap")[0] == 0
    other = run / "experiment-projection-umap"
    assert set(pl.read_parquet(other / "projection.parquet")["method"]) == {"umap"}
    assert "The states by UMAP" in (other / "report.html").read_text()
    both = written()
    assert first.items() <= both.items()
    assert script(*asked, "--projection", "umap")[0] == script(*asked)[0] == 0 and written() == both
