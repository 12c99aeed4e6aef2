"""mass_mean, logistic and pca: against literal formulas and scikit-learn, and on states whose direction is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from patchboard.errors import SpecError
from patchboard.spec import load_study
from patchboard.tasks.base import NULL
from patchboard.vectors.base import Place, Recipe
from patchboard.vectors.make import make_here
from patchboard.vectors.probes import logistic_vector, mass_mean_vector
from patchboard.vectors.statistics import PlaceStatistics
from patchboard.vectors.subspace import pca_subspace, shrinkage

WIDTH = 12


def planted(n: int, width: int = WIDTH, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(positive, negative, truth): normal states of one covariance, whose best linear boundary is S^-1 (difference of
    the means). The difference itself points elsewhere, since some directions vary a lot."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    basis, _ = torch.linalg.qr(draw(width, width))
    deviations = torch.logspace(-1, 1, width, dtype=torch.float64)
    delta = basis @ (deviations * draw(width)) * 0.6
    positive = (draw(n, width) * deviations) @ basis.T + delta / 2 + 3
    negative = (draw(n, width) * deviations) @ basis.T - delta / 2 + 3
    truth = basis @ ((basis.T @ delta) / deviations.square())
    return positive, negative, truth


def cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one.double(), other.double(), dim=0))


@pytest.mark.parametrize("build", [mass_mean_vector, lambda p, n: logistic_vector(p, n, 0.1)], ids=["mean", "logistic"])
def test_the_planted_direction_is_found(build):
    positive, negative, truth = planted(6000)
    difference = positive.mean(0) - negative.mean(0)
    found = build(positive, negative)
    assert cosine(found, truth) > 0.98 > 0.7 > cosine(difference, truth)
    torch.testing.assert_close(found.norm(), difference.norm())
    assert found @ difference > 0, "from the second to the first"


@pytest.mark.parametrize("build", [mass_mean_vector, lambda p, n: logistic_vector(p, n, 1.0)], ids=["mean", "logistic"])
def test_it_separates_states_that_it_has_not_seen(build):
    """Held out: as good as the true boundary within two points, where the difference of the means is far from it."""
    positive, negative, truth = planted(3000)
    found = build(positive[:1500], negative[:1500])
    seen = (positive[:1500].mean(0) + negative[:1500].mean(0)) / 2

    def accuracy(direction: Tensor) -> float:
        right = [((positive[1500:] - seen) @ direction > 0), ((negative[1500:] - seen) @ direction < 0)]
        return float(torch.cat(right).double().mean())

    plain = positive[:1500].mean(0) - negative[:1500].mean(0)
    assert accuracy(found) > accuracy(truth) - 0.02 and accuracy(plain) < accuracy(truth) - 0.05


@pytest.mark.parametrize(("n", "width"), [(40, 6), (5, 30)])
def test_mass_mean_is_the_literal_formula(n, width):
    """With the whole covariance inverted; also where there are fewer states than dimensions."""
    positive, negative, _ = planted(n, width)
    centred = torch.cat([positive - positive.mean(0), negative - negative.mean(0)])
    covariance = centred.T @ centred / (2 * n)
    kept, isotropic = shrinkage(torch.linalg.eigvalsh(covariance), 2 * n, width)
    whole = kept * covariance + isotropic * torch.eye(width, dtype=torch.float64)
    difference = positive.mean(0) - negative.mean(0)
    literal = torch.linalg.solve(whole, difference)
    expected = literal * difference.norm() / literal.norm()
    torch.testing.assert_close(mass_mean_vector(positive, negative), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("n", "more", "width", "l2"), [(60, 60, 6, 1.0), (20, 90, 40, 0.1), (30, 30, 8, 50.0)])
def test_logistic_is_scikit_learns(n, more, width, l2):
    """Sets of unequal size, fewer states than dimensions, weak and strong penalties."""
    positive, negative, _ = planted(max(n, more), width)
    positive, negative = positive[:n], negative[:more]
    states = torch.cat([positive, negative])
    centred = states - states.mean(0)
    scaled = (centred / centred.square().mean().sqrt()).numpy()
    model = LogisticRegression(C=1 / l2, class_weight="balanced", tol=1e-12, max_iter=20000)
    theirs = torch.from_numpy(model.fit(scaled, [1] * n + [0] * more).coef_[0])
    assert cosine(logistic_vector(positive, negative, l2), theirs) > 1 - 1e-6


def test_states_that_are_all_one():
    same = torch.ones(4, 3, dtype=torch.float64)
    for build in (mass_mean_vector, lambda p, n: logistic_vector(p, n, 1.0)):
        assert build(same, same).equal(torch.zeros(3, dtype=torch.float64))
        apart = build(same + torch.tensor([2.0, 0, 0]), same)
        assert cosine(apart, torch.tensor([1.0, 0, 0])) > 0.999 and apart.norm() == pytest.approx(2)


def test_pca_finds_the_plane_in_which_states_vary():
    generator = torch.Generator().manual_seed(1)
    plane, _ = torch.linalg.qr(torch.randn(WIDTH, 2, generator=generator, dtype=torch.float64))
    inside = torch.randn(300, 2, generator=generator, dtype=torch.float64) * torch.tensor([5.0, 3.0])
    noise = torch.randn(300, WIDTH, generator=generator, dtype=torch.float64) * 0.05
    states = inside @ plane.T + noise + 7
    found = pca_subspace(states, 2)
    angles = torch.linalg.svdvals(found.right @ plane).clamp(max=1).arccos()
    assert float(angles.max()) < 0.01
    theirs = PCA(2).fit(states.numpy())
    for own, other in zip(found.right, torch.from_numpy(theirs.components_), strict=True):
        assert abs(cosine(own, other)) > 1 - 1e-9
    torch.testing.assert_close(found.center, states.mean(0))


PLACE = Place("resid_post", '"last"')


@pytest.fixture(scope="module")
def states():
    generator = torch.Generator().manual_seed(0)
    return {task: torch.randn(9, 2, WIDTH, generator=generator) + i for i, task in enumerate(("A", "B", "C", NULL))}


@pytest.fixture(scope="module")
def statistics(states):
    found = PlaceStatistics((2, 5), tuple(states), keep_states=True)
    for task, own in states.items():
        found.update(task, own, torch.arange(9) % 3 > 0)
    return {("f", PLACE): found}


def made(statistics, kind: str, **more):
    recipe = Recipe(key="i/A/5", fit="f", kind=kind, place=PLACE, layer=5, needs_states=True, **{"only": "all", **more})
    return make_here({recipe.key: recipe}, statistics, lambda rows: rows)[recipe.key]


def test_which_states_are_taken(states, statistics):
    """All of a task or the right ones, of one block, of a head's columns; a task is taken out of all_tasks."""
    of = {task: own[:, 1].double() for task, own in states.items()}
    others = torch.cat([of["B"], of["C"]])
    found = made(statistics, "mass_mean", plus=("A",), minus=("A", "B", "C"))
    torch.testing.assert_close(found, mass_mean_vector(of["A"], others).float())
    right = torch.arange(9) % 3 > 0
    found = made(statistics, "logistic", plus=("A",), minus=(NULL,), only="correct", options=(("l2", 2.0),))
    torch.testing.assert_close(found, logistic_vector(of["A"][right], of[NULL], 2.0).float())
    found = made(statistics, "mass_mean", plus=("A",), minus=("B",), columns=(4, 8))
    torch.testing.assert_close(found, mass_mean_vector(of["A"][:, 4:8], of["B"][:, 4:8]).float())
    found: Any = made(statistics, "pca", plus=("A", "B"), rank=3)
    torch.testing.assert_close(found.right, pca_subspace(torch.cat([of["A"], of["B"]]), 3).right.float())
    assert found.left.shape == (WIDTH, 3)


TASKS = "tasks: {family: bitwise, only: [AND, OR]}\n"


@pytest.mark.parametrize(
    ("vector", "told"),
    [
        ("{mass_mean: [same_task, XR]}", "vector.mass_mean[1]: unknown task 'XR'"),
        ("{mass_mean: [same_task, same_task]}", "vector.mass_mean[1]: same_task stands in the list twice"),
        ("{mean: same_task, l2: 2}", "vector.l2: found the number 2.0 beside mean"),
        ("{logistic: [same_task, all_tasks], l2: 0}", "vector.l2: found"),
        ("{logistic: [same_task, all_tasks], rank: 2}", "vector.rank: found the whole number 2 beside logistic"),
    ],
)
def test_refusals(vector, told):
    from patchboard.plan.validate import check_study

    with pytest.raises(SpecError) as caught:
        check_study(load_study(f"{TASKS}interventions: {{a: {{op: add, vector: {vector}}}}}\n"))
    assert told in caught.value.one_line()


def test_one_task_has_nothing_to_be_told_from():
    from patchboard.plan.validate import check_study

    text = (
        "tasks: {family: bitwise, only: [AND]}\ninterventions: {a: {op: add, vector: {mass_mean: [AND, all_tasks]}}}\n"
    )
    with pytest.raises(SpecError, match="mass_mean separates two sets of states, and there is one task; add tasks"):
        check_study(load_study(text))
    check_study(
        load_study(text.replace("only: [AND]", "only: [AND], include_null: true").replace("all_tasks", "null_task"))
    )


def test_too_many_dimensions_of_too_few_prompts():
    from patchboard.plan.validate import check_study

    text = f"{TASKS}interventions: {{a: {{op: ablate, vector: {{pca: same_task, rank: 5, prompts: 5}}}}}}\n"
    with pytest.raises(SpecError, match="vector.rank: 5 dimensions of 5 prompts a task; use fewer"):
        check_study(load_study(text))
