"""The digest of a piece changes with its code, and with what that code names; not with anything else."""

from __future__ import annotations

from dataclasses import dataclass

import patchboard as pb
from patchboard.execution.plugin_sources import piece_digest, plugin_sources
from patchboard.ops import OPS
from patchboard.spec.study import study_of

NOTEBOOK = """
from dataclasses import dataclass
import torch

SCALE = {scale}

def helper(h):
    return {helper} * h * SCALE

class Op:
    operand, neutral = "none", {neutral}

    @staticmethod
    def apply(h, operand, strength):
        return helper(h) + torch.relu(h)

def function(h, operand, strength=1.0):
    return [helper(each) for each in h]

def unused():
    return {unused}
"""


def cells(**changes: object) -> dict:
    """The names of a notebook whose cells were run; Python has no file of them."""
    space: dict = {"__name__": "__main__"}
    text = NOTEBOOK.format(**({"scale": 1.0, "helper": 2, "neutral": 0.0, "unused": 5} | changes))
    exec(compile(text, "<cell 1>", "exec"), space)
    return space


def test_a_piece_and_all_that_it_names_is_in_its_digest():
    for name in ("Op", "function"):
        own = piece_digest(cells()[name])
        assert own == piece_digest(cells()[name]) == piece_digest(cells(unused=6)[name])
        assert own != piece_digest(cells(helper=3)[name])
        assert own != piece_digest(cells(scale=1.5)[name])
    assert piece_digest(cells()["Op"]) != piece_digest(cells(neutral=1.0)["Op"])


@dataclass
class Row:
    width: int
    get: object


def test_an_object_is_what_it_holds():
    def of(factor: int) -> Row:
        return Row(factor, lambda model: model)

    assert piece_digest(of(1)) == piece_digest(of(1)) != piece_digest(of(2))


def test_pieces_of_a_notebook_count_where_the_study_names_them():
    study = study_of({"interventions": {"o": {"op": "zero"}}})
    try:
        pb.register.op("halved_here", operand="none", neutral=0.0)(cells()["function"])
        assert plugin_sources(study) == {}
        using = study_of({"interventions": {"o": {"op": "halved_here"}}})
        (name,) = before = plugin_sources(using)
        assert name == "op 'halved_here'"
        pb.register.op("halved_here", operand="none", neutral=0.0)(cells(helper=3)["function"])
        assert plugin_sources(using) != before
    finally:
        OPS.remove("halved_here")
