"""`patchboard check`: our own pieces keep every promise, and a planted fault is found by the promise it breaks."""

from __future__ import annotations

import pytest

from patchboard.commands.main import main
from patchboard.plugins.checks import PROMISES
from patchboard.plugins.checks.promise import kept
from patchboard.registry import OWN


@pytest.mark.parametrize("kind", ["op", "metric", "fitter", "control"])
def test_our_own_pieces_keep_every_promise(kind):
    registry, promises = PROMISES[kind]
    assert len(registry) >= 4 and len(promises) >= 5
    for name, entry in registry.items():
        # what is promised of ops is of states and what users can give: tests/parity/test_knock_out.py and test_noise.py
        if registry.enrolment(name).origin == OWN and getattr(entry, "operand", "") not in ("edges", "noise"):
            assert [f for f in kept(promises, entry) if f.problem] == [], f"{kind} {name}"


OP = '''
import torch
import patchboard as pb


@pb.register.op("mine")
class Mine:
    """h + strength * v."""

    operand, neutral = "vector", 0.0

    @staticmethod
    def apply(h, operand, strength):
        {body}
'''
METRIC = '''
import torch
import patchboard as pb


@pb.register.metric("mine")
class Mine:
    """The answer's logit."""

    unit = "logits"

    @staticmethod
    def score(logits, target, foil, clean):
        {body}
{more}
'''
TASK = '''
import random
import patchboard as pb
from patchboard.tasks.base import Item


@pb.register.task("mine", tasks=["upper", "twice"])
def mine(seed):
    """Letters."""
    {body}
'''
CONTROL = '''
from dataclasses import replace
import patchboard as pb
from patchboard.plan.controls import Control, ControlCell
from patchboard.plan.planned_edits import PlannedEdit


@pb.register.control("mine")
class Mine(Control):
    """The edit at half its strength."""

    phrase = "half the strength"

    @classmethod
    def cells(cls, placed, options):
        {body}
'''
FITTER = '''
import torch
import patchboard as pb


@pb.register.fitter("mine")
def mine(recipe, statistics):
    """The median of the task's states."""
    columns = slice(*(recipe.columns or (None,)))
    means = statistics.means(recipe.plus, recipe.layer, recipe.only)[:, columns]
    {body}
'''
POSITION = '''
import patchboard as pb


@pb.register.position("mine")
def mine(prompt):
    """the prompt's first token"""
    {body}
'''
LETTERS = "return [Item(a, {'upper': a.upper(), 'twice': a + a}) for a in "
HALF = "tuple(PlannedEdit(replace(p.edit, strength=p.edit.strength / 2{more}), {recipe}) for p in placed.edits)"
GOOD = {
    "fitter": FITTER.format(body="return means.mean(0)"),
    "position": POSITION.format(body="return [0]"),
    "op": OP.format(body="return h + strength * operand"),
    "metric": METRIC.format(body="return logits.gather(-1, target[:, None])[:, 0]", more=""),
    "task": TASK.format(body=f"{LETTERS}'abcdefgh']"),
    "control": CONTROL.format(
        body=f"yield ControlCell('mine', placed.vector_task, {HALF.format(more='', recipe='p.recipe')})"
    ),
}
FAULTS = {
    "an op that writes in place": (
        OP.format(body="h += strength * operand\n        return h"), "does not write into what it is given: h is",
    ),
    "an op that mixes rows": (
        OP.format(body="return h + strength * (operand - h.mean(0))"), "each row depends on its own state, operand and",
    ),
    "an op that acts at its neutral strength": (
        OP.format(body="return h + (strength + 0.1) * operand"), "its neutral strength leaves every state as it is",
    ),
    "an op without effect": (OP.format(body="return h.clone()"), "another strength changes states: at strength 0.5"),
    "an op of chance": (
        OP.format(body="return h + strength * torch.rand_like(h)"), "gives the same states each time: states differ",
    ),
    "an op of another type": (
        OP.format(body="return (h + strength * operand).double()"), "gives finite states of the shape, type and device",
    ),
    "an op that fails": (
        OP.format(body="return h @ operand"), "raises RuntimeError: ",
    ),
    "an op that stays": (
        OP.format(body="import pandas\n        return h + strength * operand"), "can be sent to a server: --remote: it",
    ),
    "an op of one row only": (
        OP.format(body="return h + strength[:1] * operand"), "each row depends on its own state, operand and strength",
    ),
    "a metric of the batch": (
        METRIC.format(body="return logits[:, 0] - logits.mean()", more=""), "each read's score depends on that read",
    ),
    "a metric of the whole": (
        METRIC.format(body="return logits.mean()", more=""), "gives one finite floating number a read: gives [] for 6",
    ),
    "a metric that is not finite": (
        METRIC.format(body="return logits[:, 0] / 0", more=""), "gives one finite floating number a read: gives NaN",
    ),
    "a metric that writes": (
        METRIC.format(body="logits[:, 0] = 0\n        return logits[:, 1]", more=""),
        "does not write into what it is given: logits written over",
    ),
    "a metric that joins answers": (
        METRIC.format(
            body="return logits[:, 0]",
            more="    @staticmethod\n    def combine(scores, starts):\n        return 0 * scores[starts] + sum(scores)",
        ),
        "answers of several tokens are combined each by itself: an answer of 1 tokens",
    ),
    "a family without a seed": (
        TASK.format(body=f"{LETTERS}random.sample('abcdefghijklmnop', 8)]"), "a seed gives the same pool each time",
    ),
    "a family that repeats an input": (
        TASK.format(body=f"{LETTERS}'abcdefga']"), "no input stands in the pool twice: 1 items repeat an input, 'a'",
    ),
    "a family with an empty answer": (
        TASK.format(body="return [Item(a, {'upper': '', 'twice': a}) for a in 'abcdefg']"), "has an empty answer",
    ),
    "a fitter of a part": (
        FITTER.format(body="return means.mean(0)[:3]"), "makes a finite operand of its kind, as wide as the",
    ),
    "a fitter without heads": (
        FITTER.format(body="return statistics.means(recipe.plus, recipe.layer, recipe.only).mean(0)"),
        "of one head's part of the states, a vector as wide as that part: gives vector of shape [12]",
    ),
    "a fitter of others": (
        FITTER.format(body="return means.mean(0) + statistics.means(('C',), recipe.layer, 'all')[0, columns]"),
        "depends on the tasks that it is given, and on no other: changes with states of B, C, Null",
    ),
    "a fitter of nothing": (FITTER.format(body="return torch.ones_like(means[0])"), "does not depend on its task's"),
    "a fitter that writes": (
        FITTER.format(body="return statistics.all.sums[recipe.plus[0]].mul_(2)[0, columns] + means[0]"),
        "does not write into the statistics: the statistics are written over",
    ),
    "a position outside": (POSITION.format(body="return [len(prompt.token_ids)]"), "gives indices of the prompt's own"),
    "a position nowhere": (POSITION.format(body="return []"), "gives tokens of some prompt: gives no token of any"),
    "a control elsewhere": (
        CONTROL.format(body=f"yield ControlCell('mine', '', {HALF.format(more=', layer=3', recipe='None')})"),
        "it edits the places that the intervention edits: beside patched",
    ),
    "a control with others' vectors": (
        CONTROL.format(
            body="yield ControlCell('mine', '', "
            + HALF.format(more="", recipe="p.recipe and replace(p.recipe, fit='fit9')") + ")"
        ),
        "its vectors have names of their own: beside patched two different vectors are called patched/A/1",
    ),
    "a control of nothing": (CONTROL.format(body="yield from ()"), "has cells for some kind of intervention"),
}  # fmt: skip


@pytest.mark.parametrize("kind", GOOD)
def test_good_pieces_pass(plugin, capsys, kind):
    assert main(["check", str(plugin(GOOD[kind]))]) == 0
    out = capsys.readouterr().out
    assert (
        out.startswith(f"{kind} mine (") and "FAILED" not in out and out.count("  passed  ") == len(PROMISES[kind][1])
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(plugin, capsys, fault):
    text, broken = FAULTS[fault]
    assert main(["check", str(plugin(text))]) == 2
    out, err = capsys.readouterr()
    assert any(broken in line for line in out.splitlines() if line.startswith("  FAILED  ")), out
    assert err.startswith("error: ") and err.endswith("'mine': a promise is not kept; see the lines that say FAILED\n")
