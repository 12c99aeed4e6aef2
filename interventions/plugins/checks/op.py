"""What an op promises: a pure function of one row at a time, without effect at its neutral strength."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from patchboard.ops import FeatureTensors, SubspaceTensors
from patchboard.plugins.checks.op_in_model import agrees_in_a_model, features
from patchboard.plugins.checks.promise import Promise
from patchboard.plugins.travel import check_travels

ROWS, WIDTH = 5, 12


def states(seed: int = 1) -> Tensor:
    """h [row, d_model]."""
    return torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(seed))


def operand_of(op: Any) -> Any:
    """An operand of the op's kind: vectors [row, d_model], a subspace whose projection is oblique, features of which
    some are active in a random state, subspace and states, or None."""
    generator = torch.Generator().manual_seed(0)
    if op.operand in ("vector", "state", "path"):
        return torch.randn(ROWS, WIDTH, generator=generator)
    if op.operand in ("subspace", "subspace and state"):
        left, right = torch.randn(WIDTH, 3, generator=generator), torch.randn(3, WIDTH, generator=generator)
        right = torch.linalg.solve(right @ left, right)  # right @ left = 1
        subspace = SubspaceTensors(left, right, torch.randn(WIDTH, generator=generator))
        return subspace if op.operand == "subspace" else (subspace, torch.randn(ROWS, WIDTH, generator=generator))
    return features(WIDTH, generator) if op.operand == "features" else None


def rows_of(operand: Any, rows: Any) -> Any:
    if isinstance(operand, tuple):
        return operand[0], operand[1][rows]
    return operand[rows] if isinstance(operand, Tensor) else operand


def tensors_of(operand: Any) -> dict[str, Tensor]:
    """The tensors of an operand, by name."""
    if isinstance(operand, tuple):
        return vars(operand[0]) | {"state": operand[1]}
    if isinstance(operand, SubspaceTensors | FeatureTensors):
        return {name: tensor for name, tensor in vars(operand).items() if isinstance(tensor, Tensor)}
    return {} if operand is None else {"operand": operand}


def strengths() -> Tensor:
    """[row, 1], one of its own in each row."""
    return torch.tensor([[0.0], [0.3], [1.0], [-1.5], [2.0]])


def _at_neutral(op: Any) -> str:
    h = states()
    return _differs(op.apply(h.clone(), operand_of(op), torch.full((ROWS, 1), float(op.neutral))), h)


def _elsewhere(op: Any) -> str:
    h = states()
    after = op.apply(h.clone(), operand_of(op), torch.full((ROWS, 1), op.neutral + 0.5))
    return "" if not torch.allclose(after, h) else f"at strength {op.neutral + 0.5} every state is as it was"


def _form(op: Any) -> str:
    h = states()
    after = op.apply(h.clone(), operand_of(op), strengths())
    if not isinstance(after, Tensor):
        return f"gives a {type(after).__name__}, expected a tensor"
    found, wanted = ((t.dtype, str(t.device), tuple(t.shape)) for t in (after, h))
    if found != wanted:
        return f"gives {found[0]} of shape {list(found[2])} on {found[1]}, expected {wanted[0]} of {list(wanted[2])}"
    return "" if bool(after.isfinite().all()) else "gives NaN or infinite numbers for finite states"


def _deterministic(op: Any) -> str:
    first = op.apply(states(), operand_of(op), strengths())
    torch.rand(7)
    return _differs(op.apply(states(), operand_of(op), strengths()), first)


def _inputs(op: Any) -> str:
    h, operand, strength = states(), operand_of(op), strengths()
    given = {"h": h, "strength": strength, **tensors_of(operand)}
    before = {name: tensor.clone() for name, tensor in given.items()}
    op.apply(h, operand, strength)
    changed = [name for name in given if not torch.equal(given[name], before[name])]
    return f"{', '.join(changed)} {'is' if len(changed) == 1 else 'are'} written over" if changed else ""


def _row_by_row(op: Any) -> str:
    """Other rows' states must not matter, to the bit; a row by itself is the same but for rounding."""
    h, operand, strength = states(), operand_of(op), strengths()
    whole = op.apply(h.clone(), operand, strength)
    for row in range(ROWS):
        others = torch.arange(ROWS) != row
        changed, moved = h.clone(), strength.clone()
        changed[others] = 100 * states(2)[others]
        moved[others] = 0.5
        if not torch.equal(op.apply(changed, operand, moved)[row], whole[row]):
            return f"row {row} changes with the other rows' states"
        alone = op.apply(h[row : row + 1].clone(), rows_of(operand, slice(row, row + 1)), strength[row : row + 1])
        if alone.shape != (1, WIDTH) or not torch.allclose(alone[0], whole[row], rtol=1e-4, atol=1e-5):
            return f"row {row} by itself is another than among the others"
    return ""


def _differs(found: Any, wanted: Tensor) -> str:
    if not isinstance(found, Tensor) or found.shape != wanted.shape:
        return (
            f"gives {list(found.shape) if isinstance(found, Tensor) else type(found).__name__}, expected a state a row"
        )
    if torch.equal(found, wanted):
        return ""
    return f"states differ by up to {float((found - wanted).abs().max()):.3g}"


def _travels(op: Any) -> str:
    check_travels("it", op.apply)
    return ""


OP_PROMISES = (
    Promise("gives finite states of the shape, type and device of h", _form),
    Promise("its neutral strength leaves every state as it is, to the bit", _at_neutral),
    Promise("another strength changes states", _elsewhere),
    Promise("each row depends on its own state, operand and strength alone", _row_by_row),
    Promise("gives the same states each time", _deterministic),
    Promise("does not write into what it is given", _inputs),
    Promise("in a model, wavefront, rows and a plain hook agree", agrees_in_a_model),
    Promise("can be sent to a server", _travels),
)
