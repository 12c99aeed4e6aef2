"""What a fitter promises: an operand of the kind that it names, made of the tasks that it is given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from patchboard.ops import SubspaceTensors
from patchboard.plugins.checks.promise import Promise
from patchboard.plugins.travel import check_travels
from patchboard.tasks.base import NULL
from patchboard.vectors.base import Place, Recipe
from patchboard.vectors.statistics import PlaceStatistics

LAYERS, LABELS, PROMPTS, WIDTH = (1, 2), ("A", "B", "C", NULL), 6, 12
_HEAD = (4, 8)
"""Part of a state that belongs to one head."""


def statistics(seeds: dict[str, int] | None = None) -> PlaceStatistics:
    """States of four labels, each drawn by a seed of its own."""
    found = PlaceStatistics(LAYERS, LABELS, keep_states=True)
    for number, label in enumerate(LABELS):
        generator = torch.Generator().manual_seed((seeds or {}).get(label, number))
        states = torch.randn(PROMPTS, len(LAYERS), WIDTH, generator=generator)
        found.update(label, states, torch.arange(PROMPTS) % 3 > 0)
    return found


def recipe_of(fitter: Any, columns: tuple[int, int] | None = None) -> Recipe:
    """A recipe as the plan would write it."""
    return Recipe(
        key="checked/A/2", fit="fit0", kind="checked", place=Place("resid_post", '"last"'), layer=2, only="correct",
        plus=LABELS if fitter.takes == "tasks" else ("A",), minus=("B",) if fitter.takes in ("pair", "file") else (),
        rank=2 if fitter.makes == "subspace" else 0, columns=columns, needs_states=True,
        options=tuple(dict(fitter.options).items()),
    )  # fmt: skip


def _made(fitter: Any, columns: tuple[int, int] | None = None, seeds: dict[str, int] | None = None) -> Any:
    return fitter.builder()(recipe_of(fitter, columns), statistics(seeds))


def _parts(operand: Any) -> dict[str, Tensor]:
    return vars(operand) if isinstance(operand, SubspaceTensors) else {"vector": operand}


def _same(one: Any, other: Any) -> bool:
    mine, theirs = _parts(one), _parts(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def _form(fitter: Any, columns: tuple[int, int] | None = None) -> str:
    width = columns[1] - columns[0] if columns else WIDTH
    made = _made(fitter, columns)
    wanted = SubspaceTensors if fitter.makes == "subspace" else Tensor
    if not isinstance(made, wanted):
        return f"gives a {type(made).__name__}, expected a {wanted.__name__} (makes = {fitter.makes!r})"
    if isinstance(made, SubspaceTensors):
        rank = made.left.shape[-1]
        shapes = {"left": (width, rank), "right": (rank, width), "center": (width,)}
    else:
        shapes = {"vector": (width,)}
    for name, part in _parts(made).items():
        if tuple(part.shape) != shapes[name] or not part.is_floating_point():
            return f"gives {name} of shape {list(part.shape)}, {part.dtype}, expected {list(shapes[name])}, floating"
        if not bool(part.isfinite().all()):
            return f"gives NaN or infinite numbers in {name}"
    return ""


def _at_a_head(fitter: Any) -> str:
    return "" if fitter.makes == "subspace" else _form(fitter, _HEAD)


def _deterministic(fitter: Any) -> str:
    first = _made(fitter)
    torch.rand(3)
    return "" if _same(first, _made(fitter)) else "two calls give two results"


def _own_tasks(fitter: Any) -> str:
    """Other tasks' states must not matter, and the first one's must."""
    given = {"A", *(("B",) if fitter.takes in ("pair", "file") else LABELS if fitter.takes == "tasks" else ())}
    others = {label: 50 + i for i, label in enumerate(LABELS) if label not in given}
    if not _same(_made(fitter), _made(fitter, seeds=others)):
        return f"changes with states of {', '.join(others)}, which it is not given"
    return "" if not _same(_made(fitter), _made(fitter, seeds={"A": 77})) else "does not depend on its task's states"


def _statistics(fitter: Any) -> str:
    held = statistics()
    before = held.means(LABELS, 2, "all").clone(), held.means(LABELS, 2, "correct").clone()
    fitter.builder()(recipe_of(fitter), held)
    after = held.means(LABELS, 2, "all"), held.means(LABELS, 2, "correct")
    return "" if all(map(torch.equal, before, after)) else "the statistics are written over"


def _travels(fitter: Any) -> str:
    check_travels("it", fitter.host_builder() or fitter.builder())
    return ""


def _of_one(promise: Promise) -> Promise:
    """Not of kinds that are made of all recipes and the model's projections together."""
    return Promise(promise.text, lambda fitter: "" if fitter.joint_builder() else promise.test(fitter))


FITTER_PROMISES = (
    *map(
        _of_one,
        (
            Promise("makes a finite operand of its kind, as wide as the states", _form),
            Promise("of one head's part of the states, a vector as wide as that part", _at_a_head),
            Promise("depends on the tasks that it is given, and on no other", _own_tasks),
            Promise("gives the same operand each time", _deterministic),
            Promise("does not write into the statistics", _statistics),
        ),
    ),
    Promise("can be sent to a server", _travels),
)
