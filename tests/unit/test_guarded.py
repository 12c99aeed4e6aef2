"""Guardedness on planted states: what a theorem promises, and what it does not; its table and summary."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from patchboard.measure.decodability import ALL
from patchboard.measure.guarded import Points, guarded_rows, guarded_summary
from patchboard.measure.probing import Asked, cross_validated, folds_of, in_sample
from patchboard.measure.statistics import Bootstrap
from patchboard.ops import OPS, SubspaceTensors
from patchboard.store.schema import GUARDED
from patchboard.vectors.subspace import leace_subspace

BOOTSTRAP = Bootstrap(200, 0.95, 0)
LINEAR, ALL_KINDS = Asked(["logistic", "mass_mean"], 5, 0), Asked(["logistic", "mlp"], 5, 0)


def planted(points: int, labels: int = 4, width: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """States that tell their label by a mean of its own, and by the product of two signs."""
    rng = np.random.default_rng(seed)
    codes = np.arange(points) % labels
    signs = rng.choice([-1.0, 1.0], size=(points, 2))
    signs[:, 1] = signs[:, 0] * np.where(codes % 2, 1, -1)
    means = 2 * np.random.default_rng(99).normal(size=(labels, width))
    states = means[codes] + rng.normal(size=(points, width))
    return np.hstack([states, 3 * signs + 0.4 * rng.normal(size=(points, 2))]), codes


def erased(states: np.ndarray, subspace: SubspaceTensors) -> np.ndarray:
    whole = torch.from_numpy(states)
    return OPS["ablate"].apply(whole, subspace, torch.ones(1, 1)).numpy()


def test_leace_leaves_no_linear_probe_more_than_a_constant_on_its_own_states_and_a_little_on_others():
    states, codes = planted(800)
    fitted, others = slice(0, 200), slice(200, None)
    subspace = leace_subspace(torch.from_numpy(states[fitted]), torch.from_numpy(codes[fitted]))
    own, held = erased(states[fitted], subspace), erased(states[others], subspace)
    before = (in_sample(states[fitted], codes[fitted], LINEAR) == codes[fitted]).mean(1)
    after = (in_sample(own, codes[fitted], LINEAR) == codes[fitted]).mean(1)
    assert (before > 0.95).all()
    assert (after == 0.25).all(), "the best constant"
    folds = folds_of(codes[others], np.arange(600), 0)
    (found,) = cross_validated(held, [codes[others]], folds, ALL_KINDS)
    linear, mlp = (found == codes[others]).mean(1)
    assert 0.15 < linear < 0.5, "near chance, but means of other states are not quite equal"
    assert mlp > linear + 0.1, "the product of two signs has no mean"


def test_means_that_differ_ever_so_little_are_found():
    """What the test of the theorem would see: the same, with one label's states moved by a tenth of their spread."""
    states, codes = planted(200)
    subspace = leace_subspace(torch.from_numpy(states), torch.from_numpy(codes))
    own = erased(states, subspace)
    own[codes == 1] += 0.1 * own.std(0)
    assert ((in_sample(own, codes, LINEAR) == codes).mean(1) > 0.27).all()


def test_labels_of_equal_shares_are_no_toss_of_rounding():
    """47 points: three labels of 12 and one of 11. What a probe of no gain would name of the three is chance."""
    states, codes = planted(47)
    subspace = leace_subspace(torch.from_numpy(states), torch.from_numpy(codes))
    own = torch.from_numpy(erased(states, subspace)).float().numpy()
    assert ((in_sample(own, codes, LINEAR) == codes).mean(1) == 12 / 47).all()


def rows_of(name: str, control: str, half: str, tested: str, layer: int, given: np.ndarray, clean: np.ndarray):
    points = Points(["a"] * 6 + ["b"] * 6, np.arange(12))
    fixed = {
        "intervention": name, "control": control, "vector_task": "tasks", "half": half, "tested": tested,
        "layer": layer, "layers": str(layer), "shots": 2,
    }  # fmt: skip
    return list(guarded_rows(points, fixed, ["p"], given[:, None], clean[:, None], BOOTSTRAP))


def hits(count: int) -> np.ndarray:
    """[point] codes of which so many are right."""
    codes = np.array([0] * 6 + [1] * 6)
    return np.where(np.arange(12) < count, codes, 1 - codes)


@pytest.fixture
def table() -> pl.DataFrame:
    clean = np.stack([hits(8), hits(12), hits(9)])
    rows = []
    for layer in (0, 1):
        after = np.stack([hits(7), hits(6 + layer), hits(10)])[layer:]
        rows += rows_of("e", "", "held_out", "cross_validated", layer, after, clean[layer:])
        rows += rows_of("e", "random_subspace", "held_out", "cross_validated", layer, clean[layer:], clean[layer:])
        rows += rows_of("e", "", "fit", "cross_validated", layer, np.stack([hits(2)] * (3 - layer)), clean[layer:])
        rows += rows_of("e", "", "fit", "in_sample", layer, hits(6)[None], hits(12)[None])
    return pl.DataFrame(rows, schema=GUARDED, orient="row")


def test_the_table_counts_hits_by_task_and_layer(table):
    held = table.filter(half="held_out", control="", layer=0).sort("probed_layer")
    assert held.filter(task=ALL)["accuracy"].to_list() == pytest.approx([7 / 12, 6 / 12, 10 / 12])
    assert held.filter(task=ALL)["unablated"].to_list() == pytest.approx([8 / 12, 1, 9 / 12])
    assert held.filter(task="a")["accuracy"].to_list() == [1, 1, 1]
    assert held.filter(task="b")["accuracy"].to_list() == pytest.approx([1 / 6, 0, 4 / 6])
    assert (table["constant"] == 0.5).all() and (table["chance"] == 0.5).all()


def test_the_summary_is_of_the_layer_where_the_unedited_run_tells_most(table):
    (entry,) = guarded_summary(table)
    assert (entry["intervention"], entry["probe"], entry["layer"]) == ("e", "p", 1)
    assert entry["held_out"]["accuracy"] == pytest.approx(7 / 12) and entry["held_out"]["unablated"] == 1
    assert entry["later"]["probed_layer"] == 2 and entry["later"]["accuracy"] == pytest.approx(10 / 12)
    assert entry["random"]["accuracy"] == 1 and entry["fit"]["accuracy"] == pytest.approx(2 / 12)
    assert entry["in_sample"]["accuracy"] == 0.5 == entry["in_sample"]["constant"]
