"""A user's pieces of every kind that a server computes with: the same bits there and here; what stays is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from patchboard.plugin_files import activate, use_in_process
from tests.remote.runs import assert_same_tables, run_here, run_remotely, table

PIECES = '''
from dataclasses import replace

import torch

import patchboard as pb
from patchboard.plan.controls import Control, ControlCell
from patchboard.plan.planned_edits import PlannedEdit
from patchboard.tasks.base import Item

LIMIT = {"most": 1.0}


def limited(h):
    return h.clamp(-LIMIT["most"], LIMIT["most"])


@pb.register.op("clamp")
class Clamp:
    """h moved towards the vector, by at most 1 a coordinate."""

    operand, neutral = "vector", 0.0

    @staticmethod
    def apply(h, operand, strength):
        return h + strength * limited(operand - h)


@pb.register.metric("margin", unit="logits")
def margin(logits, target, foil, clean):
    """The answer's logit above the mean one."""
    return logits.gather(-1, target[:, None])[:, 0] - logits.mean(-1)


@pb.register.fitter("unit_mean")
def unit_mean(recipe, statistics):
    """the mean state, at length 1"""
    columns = slice(*(recipe.columns or (None,)))
    mean = statistics.means(recipe.plus, recipe.layer, recipe.only)[:, columns].mean(0)
    return torch.nn.functional.normalize(mean, dim=0)


@pb.register.position("first_of_query")
def first_of_query(prompt):
    """the first token of the query's input"""
    return prompt.positions["query"][:1]


@pb.register.control("half")
class Half(Control):
    """The edit at half its strength."""

    phrase = "half the strength"

    @classmethod
    def cells(cls, placed, options):
        edits = tuple(PlannedEdit(replace(p.edit, strength=p.edit.strength / 2), p.recipe) for p in placed.edits)
        yield ControlCell("half", placed.vector_task, edits)


@pb.register.task("letters", tasks=["upper", "twice"])
def letters(seed):
    """Letters."""
    return [Item(a + b, {"upper": (a + b).upper(), "twice": 2 * (a + b)}) for a in "abcdefgh" for b in "abcd"]
'''


@pytest.fixture(autouse=True)
def no_plugin_stays() -> Iterator[None]:
    yield
    use_in_process(())
    activate(())


def changes(file: Path) -> dict:
    vector = {"shots": 1, "prompts": 3, "only": "all"}
    other = {"unit_mean": "other_task", **vector}
    return {
        "plugins": [str(file)],
        "tasks": {"family": "letters"},
        "interventions": {
            "c": {"op": "clamp", "vector": {"mean": "same_task", **vector}, "layers": [1]},
            "u": {"op": "add", "vector": other, "layers": [1], "position": "first_of_query"},
            "h": {"op": "clamp", "vector": {"unit_mean": "same_task", **vector}, "layers": [0], "site": "head"},
        },
        "controls": ["self", "half"],
        "metrics": ["accuracy", "margin"],
        "decodability": None,
    }


@pytest.mark.slow
def test_pieces_of_a_user_give_the_same_bits_on_a_server(llama_snapshot, servers, tmp_path):
    file = tmp_path / "my_pieces.py"
    file.write_text(PIECES)
    here = run_here(llama_snapshot, tmp_path / "here", **changes(file))
    status, _, err = run_remotely(llama_snapshot, servers(), tmp_path / "there", **changes(file))
    assert status == 0, err
    assert_same_tables(here, tmp_path / "there")
    effects = table(here, "effects.parquet")
    moved = effects.filter((pl.col("metric") == "margin") & (pl.col("effect").abs() > 1e-6))
    assert set(moved.select("intervention", "control").rows()) == {(i, c) for i in "cuh" for c in ("", "half")}


def test_what_cannot_travel_is_refused_before_anything_is_sent(llama_snapshot, servers, tmp_path):
    file, server = tmp_path / "my_pieces.py", servers()
    (tmp_path / "helpers_of_mine.py").write_text("def limited(h):\n    return h.tanh()\n")
    own = 'def limited(h):\n    return h.clamp(-LIMIT["most"], LIMIT["most"])\n'
    assert own in PIECES
    file.write_text(PIECES.replace(own, "from helpers_of_mine import limited\n"))
    status, _, err = run_remotely(llama_snapshot, server, tmp_path / "there", "--quiet", **changes(file))
    assert status == 2
    assert err == (
        f"error: --remote: op 'clamp' of {file} cannot travel: 'limited' (of module helpers_of_mine,"
        " which a server does not have); write what it needs into the plug-in's own file, or run it here\n"
    )
    assert server.log("request") == []
