"""Fitted operands: literal means, theorems of erasure, and random counterparts."""

import pytest
import torch
from concept_erasure import LeaceFitter

from patchboard.ops import OPS
from patchboard.store.vectors import load_vectors, save_vectors
from patchboard.tasks.base import NULL
from patchboard.vectors.base import Place, Recipe
from patchboard.vectors.make import make_here
from patchboard.vectors.statistics import PlaceStatistics
from patchboard.vectors.subspace import leace_subspace

PLACE, WIDTH, LAYERS = Place("resid_post", '"last"'), 10, (2, 5)
LABELS = ("A", "B", "C", NULL)


@pytest.fixture(scope="module")
def data():
    """Lopsided: 40 to 160 prompts a task, means apart along a few directions, some prompts wrong."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(len(LABELS), len(LAYERS), WIDTH, generator=generator, dtype=torch.float64) * 2
    states, correct = {}, {}
    for i, task in enumerate(LABELS):
        n = 40 * (i + 1)
        states[task] = centres[i] + torch.randn(n, len(LAYERS), WIDTH, generator=generator, dtype=torch.float64)
        correct[task] = torch.rand(n, generator=generator) < 0.6
    return states, correct


@pytest.fixture(scope="module")
def statistics(data):
    states, correct = data
    found = PlaceStatistics(LAYERS, LABELS, keep_states=True)
    for task in LABELS:  # in uneven batches
        for piece in (slice(0, 7), slice(7, 8), slice(8, None)):
            found.update(task, states[task][piece].float(), correct[task][piece])
    return {("f", PLACE): found}


def make(one, statistics):
    return make_here({one.key: one}, statistics, lambda given: given)[one.key]


def recipe(kind="mean", only="all", **more):
    return Recipe(key="i/A/5", fit="f", kind=kind, place=PLACE, layer=5, only=only, **more)


def test_mean_is_the_literal_mean(data, statistics):
    states, correct = data
    torch.testing.assert_close(
        make(recipe(plus=("A",)), statistics).double(), states["A"][:, 1].mean(0), atol=1e-5, rtol=1e-5
    )
    right = states["A"][correct["A"], 1].mean(0)
    torch.testing.assert_close(
        make(recipe(plus=("A",), only="correct"), statistics).double(), right, atol=1e-5, rtol=1e-5
    )


def test_null_has_no_right_answers_and_uses_all(data, statistics):
    found = make(recipe(plus=(NULL,), only="correct"), statistics)
    torch.testing.assert_close(found.double(), data[0][NULL][:, 1].mean(0), atol=1e-5, rtol=1e-5)


def test_difference_weighs_tasks_alike_whatever_their_numbers(data, statistics):
    states, _ = data
    found = make(recipe("difference", plus=("A",), minus=("A", "B", "C")), statistics)
    means = {task: states[task][:, 1].mean(0) for task in "ABC"}
    expected = means["A"] - (means["A"] + means["B"] + means["C"]) / 3
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


def ablated(states, space):
    return OPS.get("ablate", "op").apply(states.float(), space, torch.ones(len(states), 1)).double()


@pytest.mark.parametrize("method", ["pca", "leace"])
def test_erasure_makes_class_means_equal_and_they_were_unequal(data, statistics, method):
    states, _ = data
    space = make(recipe("subspace", plus=LABELS, rank=3, method=method), statistics)
    after = torch.stack([ablated(states[task][:, 1], space).mean(0) for task in LABELS])
    before = torch.stack([states[task][:, 1].mean(0) for task in LABELS])
    spread = lambda means: (means - means.mean(0)).norm(dim=1).max().item()  # noqa: E731
    assert spread(before) > 2
    assert spread(after) < 1e-4


@pytest.mark.parametrize("width, prompts", [(10, 400), (64, 40), (200, 60), (3, 50), (16, 17)])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 300.0])
def test_leace_is_that_of_its_authors(width, prompts, scale):
    """More prompts than dimensions and fewer, isotropic or with one huge direction: the same projection."""
    generator = torch.Generator().manual_seed(width)
    labels = torch.arange(prompts) % len(LABELS)
    centres = torch.randn(len(LABELS), width, generator=generator, dtype=torch.float64)
    states = centres[labels] + torch.randn(prompts, width, generator=generator, dtype=torch.float64) + 5
    states[:, 0] *= scale
    eraser = LeaceFitter.fit(states, torch.nn.functional.one_hot(labels).double()).eraser
    found = leace_subspace(states, labels)
    assert eraser.bias is not None
    torch.testing.assert_close(found.center, eraser.bias)
    for rank in range(1, len(LABELS)):
        ours = found.left[:, :rank] @ found.right[:rank]
        theirs = eraser.proj_left[:, :rank] @ eraser.proj_right[:rank]
        assert (ours - theirs).norm() < 1e-8 * theirs.norm(), rank


def test_leace_of_a_task_without_correct_prompts_uses_all_of_it(data):
    states, correct = data
    found = PlaceStatistics(LAYERS, LABELS, keep_states=True)
    for task in LABELS:
        found.update(task, states[task].float(), correct[task] & (task != "B"))
    _, labels = found.labelled(5, "correct")
    counts = {task: int((labels == i).sum()) for i, task in enumerate(LABELS)}
    assert counts == {"A": int(correct["A"].sum()), "B": 80, "C": int(correct["C"].sum()), NULL: 160}


def test_pca_of_full_rank_holds_all_differences_and_of_lower_rank_the_largest(data, statistics):
    states, _ = data
    means = torch.stack([states[task][:, 1].mean(0) for task in LABELS])
    residue = []
    for rank in (1, 2, 3):
        space = make(recipe("subspace", plus=LABELS, rank=rank), statistics)
        torch.testing.assert_close(space.right @ space.left, torch.eye(rank), atol=1e-5, rtol=1e-5)
        centred = means - means.mean(0)
        residue.append((centred - centred @ space.right.T.double() @ space.left.T.double()).norm().item())
    singular = torch.linalg.svdvals(means - means.mean(0))
    expected = [float(singular[rank:].norm()) for rank in (1, 2, 3)]
    assert residue == pytest.approx(expected, abs=1e-4)


def test_random_counterparts_keep_norm_or_rank_and_differ_by_draw(statistics):
    fitted = make(recipe(plus=("A",)), statistics)
    draws = [
        make(Recipe(**{**vars(recipe(plus=("A",))), "key": f"i/A~random{d}/5", "draw": d}), statistics) for d in (0, 1)
    ]
    for drawn in draws:
        assert drawn.norm().item() == pytest.approx(fitted.norm().item(), rel=1e-5)
        assert abs(torch.cosine_similarity(drawn, fitted, dim=0)) < 0.95
    assert not torch.equal(*draws)
    space = make(recipe("subspace", plus=LABELS, rank=2, draw=0), statistics)
    torch.testing.assert_close(space.right @ space.left, torch.eye(2), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(space.right.T, space.left)


@pytest.mark.parametrize("method", ["pca", "leace"])
@pytest.mark.parametrize("draw", [-1, 0])
def test_operands_lie_in_memory_as_a_file_gives_them_back(statistics, tmp_path, method, draw):
    """A product of other strides rounds otherwise, with several threads: a resumed run would differ."""
    space = make(recipe("subspace", plus=LABELS, rank=2, method=method, draw=draw), statistics)
    save_vectors(tmp_path / "v.safetensors", {"i/A/5": space}, {"digest": "d"})
    stored = load_vectors(tmp_path / "v.safetensors", "d")["i/A/5"]
    for name in ("left", "right", "center"):
        here, there = getattr(space, name), getattr(stored, name)
        assert torch.equal(here, there) and here.stride() == there.stride(), name


def test_a_task_without_correct_prompts_is_named(data):
    states, correct = data
    found = PlaceStatistics(LAYERS, LABELS, keep_states=False)
    found.update("A", states["A"].float(), torch.zeros_like(correct["A"]))
    found.update("B", states["B"].float(), correct["B"])
    assert found.lacks_correct() == ["A"]
    torch.testing.assert_close(found.means(["A"], 5, "correct")[0], states["A"][:, 1].mean(0), atol=1e-5, rtol=1e-5)
