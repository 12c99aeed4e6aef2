"""Functions as text that stands alone: what is written out runs, and what could not run is refused."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from patchboard.emit.literal import Code, literal
from patchboard.emit.source import Sources
from patchboard.errors import SpecError
from patchboard.metrics import METRICS
from patchboard.ops import OPS

FACTOR = 0.5


def halved(h: Tensor) -> Tensor:
    return h * FACTOR


class Twice:
    """Doubled, then halved, by \\alpha."""

    @staticmethod
    def apply(h: Tensor, operand: Any, strength: Tensor, times: int = 2) -> Tensor:
        # a comment of its own
        moved: Tensor = halved(h) * times
        return moved + math.pi * strength + torch.zeros_like(h)


class Other:
    @staticmethod
    def apply(h, operand, strength):
        return Twice.apply(h, operand, strength) * 2


def made(sources: Sources) -> dict[str, Any]:
    """What the text defines, in an empty namespace."""
    space: dict[str, Any] = {}
    exec("\n".join([*sources.imports, *sources.definitions.values()]), space)
    return space


def test_a_function_comes_with_all_that_it_needs_and_without_its_types():
    sources = Sources(frozenset({"run"}))
    assert sources.add(Other.apply, "run", "op run", "A doc.") == "run_", "the script has a name run"
    text = "\n".join(sources.definitions.values())
    assert "Tensor" not in text and "staticmethod" not in text and "# a comment of its own" in text
    assert "times=2" in text and '"""A doc."""' in text
    h, strength = torch.randn(3, 4), torch.full((3, 1), 0.3)
    torch.testing.assert_close(made(sources)["run_"](h, None, strength), Other.apply(h, None, strength))


def test_one_function_is_written_once_whatever_asks_for_it():
    sources = Sources()
    names = [sources.add(METRICS.get(name, "").score, f"score_{name}", name) for name in ("logprob", "probability")]
    assert names == ["score_logprob", "score_logprob"] and list(sources.definitions) == ["score_logprob"]
    combine = sources.add(METRICS.get("probability", "").combine, "combine_probability", "probability")
    found = made(sources)[combine](np.array([-1.0, -2.0, -0.5]), np.array([0, 2]))
    np.testing.assert_allclose(found, np.exp([-3.0, -0.5]))


@pytest.mark.parametrize("name", OPS.names())
def test_every_ops_text_is_its_formula(name):
    from patchboard.ops import SubspaceTensors
    from patchboard.plugins.checks.op_in_model import features

    operand = torch.randn(3, 4)
    if OPS.get(name, "").operand.startswith("subspace"):
        subspace = SubspaceTensors(torch.randn(4, 2), torch.randn(2, 4), torch.randn(4))
        operand = subspace if OPS.get(name, "").operand == "subspace" else (subspace, operand)
    if OPS.get(name, "").operand == "features":
        operand = features(4, torch.Generator().manual_seed(0))
    sources = Sources()
    assert sources.add(OPS.get(name, "").apply, name, name) == name
    h, strength = torch.randn(3, 4), torch.full((3, 1), 0.3)
    found = made(sources)[name](h, operand, strength)
    torch.testing.assert_close(found, OPS.get(name, "").apply(h, operand, strength), rtol=0, atol=0)


def closed(offset: float) -> Any:
    def apply(h, operand, strength):
        return h + offset

    return apply


def of_a_package(h, operand, strength):
    return pl.Series(h)


def of_an_object(h, operand, strength):
    return h * KEPT["a"]


KEPT = {"a": 1.0}


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (closed(1.0), "is no plain function"),
        (lambda h, operand, strength: h, "source"),
        (torch.add, "is no plain function"),
        (of_a_package, "imports polars, which a script cannot count on"),
        (of_an_object, "uses KEPT, which cannot be written out"),
    ],
)
def test_what_does_not_stand_alone_is_refused(function, says):
    with pytest.raises(SpecError, match=re.escape(says)) as raised:
        Sources().add(function, "mine", "op mine")
    assert str(raised.value).startswith("op mine: ")


@pytest.mark.parametrize(
    "value",
    [
        {"a": list(range(99)), "b": {"c": [(1.5, math.inf), (-0.0, 2.0)]}, "d": ()},
        ["a line\n" * 40 + 'with "quotes", \\ and é', ("x",), [], {}, None, True],
        {"text": "word " * 60, 3: [["nested", "lists " * 20]]},
    ],
)
def test_data_reads_back_as_it_was(value):
    text = literal(value)
    assert eval(text) == value and max(map(len, text.splitlines())) <= 88


def test_code_stands_without_quotes():
    assert literal({"op": Code("patch")}) == '{"op": patch}'
