"""Sequences of the mixture, and the estimators that a model is held against: planted truths, slow literal formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchboard.experiments.synthetic.baselines import baseline_errors, posterior
from patchboard.experiments.synthetic.batches import Batches
from patchboard.experiments.synthetic.settings import BaselinesSection
from patchboard.plan.suffix import positions_of
from patchboard.tasks.linear_regression import Mixture, Regression, Sequences, Table, token_inputs

DISJOINT = Mixture(4, 6, 0.0, (Regression("a", (0, 1)), Regression("b", (2, 3))))
KINDS = Mixture(
    5, 7, 0.0,
    (
        Regression("plain", (0, 1, 2, 3, 4)), Regression("sparse", (0, 1, 2, 3), "sparse_linear", 2),
        Regression("leaky", (1, 3), "leaky_relu"), Regression("square", (2,), "quadratic"),
    ),
)  # fmt: skip


def recovered(x, y):
    """The weights that explain a sequence, by least squares over more pairs than coordinates; the residual."""
    weights, *_ = np.linalg.lstsq(x, y, rcond=None)
    return weights, np.abs(x @ weights - y).max()


def test_weights_lie_on_the_tasks_coordinates():
    for number, own in ((0, [0, 1]), (1, [2, 3])):
        drawn = DISJOINT.draw(number, 20, np.random.default_rng(0))
        for x, y in zip(drawn.x.astype(float), drawn.y.astype(float), strict=True):
            weights, residual = recovered(x, y)
            assert residual < 1e-4
            assert np.abs(np.delete(weights, own)).max() < 1e-4 < np.abs(weights[own]).min()


def test_a_sparse_sequence_has_as_many_weights_as_asked_for():
    drawn = KINDS.draw(1, 200, np.random.default_rng(0))
    supports = set()
    for x, y in zip(drawn.x.astype(float), drawn.y.astype(float), strict=True):
        weights, residual = recovered(x, y)
        assert residual < 1e-3
        supports.add(tuple(np.flatnonzero(np.abs(weights) > 1e-3).tolist()))
    pairs = {(i, j) for i in range(4) for j in range(i + 1, 4)}
    # every pair of the task's four coordinates, and never the fifth
    assert supports <= pairs | {(i,) for i in range(4)} and pairs <= supports


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_responses_are_the_literal_formulas(seed):
    rng = np.random.default_rng(seed)
    x, weights = rng.standard_normal((4, 3, 5)), rng.standard_normal((4, 5))
    y = KINDS.responses(x, weights, np.arange(4))
    for s in range(4):
        for p in range(3):
            z = sum(weights[s, j] * x[s, p, j] for j in range(5))
            square = sum(weights[s, j] * x[s, p, j] ** 2 for j in range(5)) / 3**0.5
            expected = [z, z, z if z > 0 else 0.1 * z, square][s]
            assert y[s, p] == pytest.approx(expected)
    on_torch = KINDS.responses(torch.from_numpy(x), torch.from_numpy(weights), torch.arange(4))
    np.testing.assert_allclose(on_torch.numpy(), y, rtol=1e-12)


@pytest.mark.parametrize("kind", ["linear", "quadratic"])
def test_y_varies_as_much_as_the_task_has_coordinates(kind):
    mixture = Mixture(4, 4, 0.0, (Regression("a", (1, 2, 3), kind),))
    assert np.square(mixture.draw(0, 40_000, np.random.default_rng(0)).y).mean() == pytest.approx(3, rel=0.05)


def test_tokens_hold_x_then_y_and_ids_are_their_rows():
    drawn = DISJOINT.draw(1, 3, np.random.default_rng(1))
    table = Table(4)
    table.prompts(DISJOINT.draw(0, 2, np.random.default_rng(2)), 1)  # others before
    prompts, rows = table.prompts(drawn, 4), table.rows
    for s, prompt in enumerate(prompts):
        assert prompt.task == "b" and prompt.last == 8
        for i, token in enumerate((*prompt.token_ids, *prompt.answer_ids)):
            pair, is_y = divmod(i, 2)
            x = np.zeros(4) if is_y else drawn.x[s, pair]
            np.testing.assert_array_equal(rows[token], [*x, drawn.y[s, pair] if is_y else 0])
    assert len({token for p in prompts for token in (*p.token_ids, *p.answer_ids)}) == 3 * 10
    assert positions_of(prompts[0], '"before_answers"', 9) == positions_of(prompts[0], '"demo_inputs"', 9)
    assert positions_of(prompts[0], '["demo_outputs", "last"]', 9) == (1, 3, 5, 7, 8)


def test_batches_are_told_by_seed_and_step_and_follow_the_mixture():
    device = torch.device("cpu")
    first, again, other = (Batches(DISJOINT, 64, seed, device) for seed in (0, 0, 1))
    tokens, y = first.at(7, 2)
    assert torch.equal(tokens, again.at(7, 2)[0])
    assert not torch.equal(tokens, other.at(7, 2)[0]) and not torch.equal(tokens, first.at(8, 2)[0])
    x = tokens[:, 0::2, :-1].numpy().astype(float)
    np.testing.assert_array_equal(tokens.numpy(), token_inputs(tokens[:, 0::2, :-1].numpy(), y.numpy()))
    followed = []
    for each, answers in zip(x, y.numpy().astype(float), strict=True):
        weights, residual = recovered(each, answers)
        assert residual < 1e-3
        followed.append(np.abs(weights[:2]).sum() < 1e-3)
        assert followed[-1] != (np.abs(weights[2:]).sum() < 1e-3)
    assert 10 < sum(followed) < 54
    lone = first.at(7, 1)  # a curriculum's first task
    assert np.abs(recovered(lone[0][0, 0::2, :-1].numpy().astype(float), lone[1][0].numpy())[0][2:]).max() < 1e-3


def literal_mean(x, y, asked, columns, variance):
    """E[W asked | pairs] for W ~ N(0, I) on the columns, by the joint normal of (answer, y)."""
    x, asked = x[:, columns], asked[columns]
    joint = x @ x.T + variance * np.eye(len(y))
    return float(asked @ x.T @ np.linalg.inv(joint) @ y)


def literal_density(x, y, columns, variance):
    joint = x[:, columns] @ x[:, columns].T + variance * np.eye(len(y))
    return np.exp(-0.5 * y @ np.linalg.inv(joint) @ y) / np.sqrt(np.linalg.det(2 * np.pi * joint))


def test_oracle_and_mixture_are_the_posterior_means():
    mixture = Mixture(4, 5, 0.3, (Regression("a", (0, 1, 2)), Regression("b", (2, 3))))  # they overlap
    drawn = mixture.draw(1, 4, np.random.default_rng(3))
    found = baseline_errors(drawn, mixture, BaselinesSection())
    for s in range(4):
        x, y = drawn.x[s].astype(float), drawn.y[s].astype(float)
        for n in range(1, 5):
            means = [literal_mean(x[:n], y[:n], x[n], c, 0.09) for c in ([0, 1, 2], [2, 3])]
            densities = np.array([literal_density(x[:n], y[:n], c, 0.09) for c in ([0, 1, 2], [2, 3])])
            share = densities / densities.sum()
            np.testing.assert_allclose(posterior(x[:n], y[:n], mixture, 0.09), share, rtol=1e-6)
            assert found["oracle"][s, n] == pytest.approx((means[1] - y[n]) ** 2, rel=1e-6)
            assert found["mixture"][s, n] == pytest.approx((share @ means - y[n]) ** 2, rel=1e-6)
        assert all(errors[s, 0] == pytest.approx(y[0] ** 2) for errors in found.values())


def test_baselines_solve_what_they_must():
    """Without noise least squares is exact once it has as many pairs as numbers, the oracle with its own two."""
    mixture = Mixture(4, 7, 0.0, DISJOINT.tasks)
    drawn = mixture.draw(0, 30, np.random.default_rng(4))
    found = {name: errors.mean(0) for name, errors in baseline_errors(drawn, mixture, BaselinesSection()).items()}
    assert found["least_squares"][4:].max() < 1e-6 < 1e-2 < found["least_squares"][3]
    assert found["oracle"][3:].max() < 1e-3 < 1e-1 < found["oracle"][1]
    assert found["oracle"].mean() <= found["mixture"].mean() < min(found["ridge"].mean(), found["least_squares"].mean())


def test_tasks_that_are_not_linear_have_no_oracle():
    drawn = KINDS.draw(3, 2, np.random.default_rng(0))
    assert set(baseline_errors(drawn, KINDS, BaselinesSection())) == {"least_squares", "ridge", "lasso"}
    assert isinstance(drawn, Sequences)
