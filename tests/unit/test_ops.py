"""Every op of the registry against its formula written out; what all ops promise: tests/plugins/test_checks.py."""

import pytest
import torch

from patchboard.ops import OPS, SubspaceTensors

ROWS, WIDTH = 5, 12


def operand_of(name):
    generator = torch.Generator().manual_seed(0)
    kind = OPS.get(name, "op").operand
    if kind in ("vector", "state", "noise"):
        return torch.randn(ROWS, WIDTH, generator=generator)
    if kind in ("subspace", "subspace and state"):
        left, right = torch.randn(WIDTH, 3, generator=generator), torch.randn(3, WIDTH, generator=generator)
        right = torch.linalg.solve(right @ left, right)  # right @ left = 1: an oblique projection
        space = SubspaceTensors(left, right, torch.randn(WIDTH, generator=generator))
        return space if kind == "subspace" else (space, torch.randn(ROWS, WIDTH, generator=generator))
    return None


LITERAL = {
    "patch": lambda h, v, s: [(1 - s[i]) * h[i] + s[i] * v[i] for i in range(ROWS)],
    "add": lambda h, v, s: [h[i] + s[i] * v[i] for i in range(ROWS)],
    "ablate": lambda h, v, s: [h[i] - s[i] * (v.left @ (v.right @ (h[i] - v.center))) for i in range(ROWS)],
    "swap": lambda h, v, s: [h[i] + s[i] * (v[0].left @ (v[0].right @ (v[1][i] - h[i]))) for i in range(ROWS)],
    "resample": lambda h, other, s: [(1 - s[i]) * h[i] + s[i] * other[i] for i in range(ROWS)],
    "knock_out": lambda h, v, s: [h[i] - s[i] * torch.finfo(torch.float32).max for i in range(ROWS)],
    "noise": lambda h, eps, s: [h[i] + s[i] * eps[i] for i in range(ROWS)],
    "scale": lambda h, v, s: [s[i] * h[i] for i in range(ROWS)],
    "zero": lambda h, v, s: [(1 - s[i]) * h[i] for i in range(ROWS)],
}


@pytest.fixture
def h():
    return torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [name for name in OPS.names() if name in LITERAL])
def test_is_its_formula_with_a_strength_of_its_own_in_each_row(name, h):
    strength = torch.tensor([[0.0], [0.3], [1.0], [-1.5], [2.0]])
    found = OPS.get(name, "op").apply(h, operand_of(name), strength)
    torch.testing.assert_close(found, torch.stack(LITERAL[name](h, operand_of(name), strength)))


def test_patch_at_strength_one_is_the_vector_to_the_bit(h):
    vector = operand_of("patch") * 1e6
    assert torch.equal(OPS.get("patch", "op").apply(h, vector, torch.ones(ROWS, 1)), vector)


def test_swap_takes_the_subspaces_part_alone_from_the_other_state(h):
    space, other = operand_of("swap")
    swapped = OPS.get("swap", "op").apply(h, (space, other), torch.ones(ROWS, 1))
    torch.testing.assert_close(swapped @ space.right.T, other @ space.right.T, atol=1e-4, rtol=1e-4)
    outside = torch.eye(WIDTH) - space.left @ space.right
    torch.testing.assert_close(swapped @ outside.T, h @ outside.T, atol=1e-4, rtol=1e-4)
    whole = SubspaceTensors(torch.eye(WIDTH), torch.eye(WIDTH), torch.zeros(WIDTH))
    torch.testing.assert_close(OPS.get("swap", "op").apply(h, (whole, other), torch.ones(ROWS, 1)), other)


def test_ablate_is_idempotent_and_leaves_the_centre(h):
    op, space, one = OPS.get("ablate", "op"), operand_of("ablate"), torch.ones(ROWS, 1)
    once = op.apply(h, space, one)
    torch.testing.assert_close(op.apply(once, space, one), once, atol=1e-4, rtol=1e-4)
    centre = space.center.expand(ROWS, -1)
    torch.testing.assert_close(op.apply(centre, space, one), centre)
