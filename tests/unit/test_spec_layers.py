"""Layers and positions: syntax without a model, blocks with one."""
# ruff: noqa: E501  # a case is a value and its message, side by side

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchboard.errors import SpecError
from patchboard.spec.layers import check_layers, layers_of_flag, parse_layers
from patchboard.spec.positions import POSITIONS, check_position_names
from tests.unit.spec_trees import untimed

part = st.none() | st.integers(-15, 15)


@untimed
@given(part, part, part.filter(lambda step: step != 0), st.integers(1, 12), st.sampled_from(["", " "]))
def test_a_range_is_a_python_slice(start: int | None, stop: int | None, step: int | None, n: int, gap: str):
    text = f"{gap}:{gap}".join("" if p is None else str(p) for p in (start, stop, step))
    expected = tuple(range(n)[start:stop:step])
    if expected:
        assert parse_layers(text, n, "--layers") == expected
        if step is None:
            assert parse_layers(text.rstrip(" ")[:-1], n, "--layers") == expected
    else:
        with pytest.raises(SpecError, match=f"holds no layer, the model has {n}"):
            parse_layers(text, n, "--layers")


@untimed
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=4), st.integers(1, 9))
def test_numbers_are_indices_of_different_blocks(numbers: list[int], n: int):
    blocks = list(range(n))
    try:
        expected = tuple(blocks[number] for number in numbers)
    except IndexError:
        expected = ()
    spellings: list[Any] = [numbers, ",".join(map(str, numbers)), " , ".join(map(str, numbers))]
    if len(numbers) == 1:
        spellings.append(numbers[0])
    for spelling in spellings:
        if expected and len(set(expected)) == len(expected):
            assert parse_layers(spelling, n, "x") == expected
        else:
            with pytest.raises(SpecError):
                parse_layers(spelling, n, "x")


def test_all_is_every_block():
    assert parse_layers("all", 3, "x") == (0, 1, 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (12, "--layers: there is no layer 12, the model has 12; choose 0 to 11"),
        ([3, -13], "--layers[1]: there is no layer -13, the model has 12; choose 0 to 11"),
        ("3,40", "--layers[1]: there is no layer 40, the model has 12; choose 0 to 11"),
        ([11, -1], "--layers[1]: 11 stands in the list twice; keep one"),
        ("40:80", "--layers: 40:80 holds no layer, the model has 12; choose within 0:12"),
        ("5:3", "--layers: 5:3 holds no layer, the model has 12; choose within 0:12"),
        ({"together": "all"}, "--layers: found the mapping {together: all}, expected layers; write all, a block's number, a list [0, 4], or from:to:step as in 0:12:2"),
    ],
)  # fmt: skip
def test_a_model_of_twelve_layers_refuses(value: Any, message: str):
    with pytest.raises(SpecError) as caught:
        parse_layers(value, 12, "--layers")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "value",
    [
        "all",
        0,
        -1,
        [0, 79],
        "0:80:4",
        "::",
        ":",
        "-4:",
        "3,5",
        {"together": "all"},
        {"together": [1]},
        {"onwards": "all"},
        {"onwards": 3},
        {"upto": "0:80:4"},
        {"upto": "3, 5"},
    ],
)
def test_syntax_accepts(value: Any):
    check_layers(value, "x")


@pytest.mark.parametrize(
    "value",
    ["", "-", "4-8", "0:8:2:1", "0:x", "1,,2", "1;2", "0:8:0", "All layers", [], [1.0], [True], [[1]], ["1"], True, None, 1.5,
     [2, 2], "2,2", {}, {"together": []}, {"together": {"together": 1}}, {"together": 1, "x": 2}, {"sweep": [1]},
     {"onwards": []}, {"onwards": {"upto": 1}}, {"upto": None}, {"onwards": 1, "upto": 2}, {"onward": 1}],
)  # fmt: skip
def test_syntax_refuses(value: Any):
    with pytest.raises(SpecError) as caught:
        check_layers(value, "x")
    assert caught.value.where.startswith("x")


@pytest.mark.parametrize(
    ("given", "meant"),
    [(["--layers", "all"], "all"), (["--layers", "[0, 1]"], [0, 1]), (["--layers=[0, 1]"], [0, 1]), (["--layers=3,5"], "3,5"),
     (["--layers", "-1"], "-1"), (["--layers", "-1,-2"], "-1,-2"), (["--layers=-1,-2"], "-1,-2"), (["--layers", "-4:"], "-4:"),
     (["--layers=:4"], ":4"), (["--layers=0:80:4"], "0:80:4"), (["--layers={'onwards': [0, 2]}"], {"onwards": [0, 2]}),
     (["--layers", "{together: all}"], {"together": "all"}), (["--layers={sweep: [0, [1, 2]]}"], {"sweep": [0, [1, 2]]}),
     (['--layers="3"'], "3")],
)  # fmt: skip
def test_the_flag_takes_every_form_of_the_spec(given: list[str], meant: Any):
    from patchboard.cli.arguments import Parser
    from patchboard.cli.run_flags import add_run_flags, parse_flags

    script, command = Parser(), Parser()
    script.add_argument("spec", nargs="?")
    inner = command.add_subparsers().add_parser("run")
    for parser in (script, inner):
        add_run_flags(parser)
    for parser, before in ((script, []), (command, ["run"])):
        args, rest = parse_flags(parser, [*before, *given])
        assert (layers_of_flag(args.layers, "--layers"), rest) == (meant, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [("[0, x]", "--layers[1]: found the text 'x', expected a layer's number; write whole numbers"),
     ("{sweep: [all, {onward: 1}]}", "--layers.sweep[1]: found the mapping {onward: 1}, expected layers; did you mean 'onwards'?"),
     ("[0, 1", "--layers:1: is no YAML"), ("all layers", "--layers: found the text 'all layers', expected layers;")],
)  # fmt: skip
def test_the_flag_refuses_in_the_specs_words(text: str, message: str):
    with pytest.raises(SpecError) as caught:
        layers_of_flag(text, "--layers")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "value", [*POSITIONS, 0, -3, ["last", "query"], [0, "last"], "S1", "S1.last", ["query.first", "S1"]]
)
def test_positions_accepted(value: Any):
    check_position_names(value, ("S1",), "x")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("Last", "x: unknown position 'Last'; did you mean 'last'?"),
        (["last", "lasst"], "x[1]: unknown position 'lasst'; did you mean 'last'?"),
        ([0, True], "x[1]: found true, expected a position; write one of last, answer, query, demo_inputs, demo_outputs, before_answers, all, a span of the task family, or a token's index"),
        (["query", "query"], "x[1]: query stands in the list twice; keep one"),
        ([], "x: found an empty list, expected at least 1 position; write one of last, answer, query, demo_inputs, demo_outputs, before_answers, all, a span of the task family, or a token's index"),
        (1.0, "x: found the number 1.0, expected a position; write one of last, answer, query, demo_inputs, demo_outputs, before_answers, all, a span of the task family, or a token's index"),
        ("S2", "x: unknown position 'S2'; choose one of S1, all, answer, before_answers, demo_inputs, demo_outputs, last, query"),
        ("S1.end", "x: found the text 'S1.end', expected a position; write one of last, answer, query, demo_inputs, demo_outputs, before_answers, all, a span of the task family, or a token's index"),
        ("-1", "x: found the text '-1', expected a token's index; write -1 without quotes"),
    ],
)  # fmt: skip
def test_positions_refused(value: Any, message: str):
    with pytest.raises(SpecError) as caught:
        check_position_names(value, ("S1",), "x")
    assert str(caught.value) == message
