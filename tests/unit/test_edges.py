"""Edges of attention in the spec and in prompts: what can be cut, what is refused, what random draws are."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchboard.errors import SpecError
from patchboard.plan.cells import ATTENTION, Edit
from patchboard.plan.controls import CONTROLS
from patchboard.plan.edit_sites import cut_heads_of, edit_sites_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.suffix import edges_of
from patchboard.plan.validate import check_study
from patchboard.report.described_edits import describe_interventions
from patchboard.spec import study_of
from patchboard.tasks.prompt import Prompt

CUT = {"op": "knock_out", "edges": {"from": "demo_outputs", "to": "last"}}


def study(controls=(), **section):
    return study_of({"version": 1, "interventions": {"a": {**CUT, **section}}, "controls": list(controls)})


def refusal(controls=(), sites=("head",), packs=True, **section) -> str:
    facts = ModelFacts("falcon", 4, 48, 83, heads=4, head_dim=12, sites=tuple(sites), packs=packs)
    with pytest.raises(SpecError) as caught:
        found = study(controls, **section)
        check_study(found)
        (variant,) = found.points[0].variants
        list(edit_sites_of(variant, facts))
        cut_heads_of(variant.section.parts[0], facts, "interventions.a")
    return caught.value.one_line()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"site": "head"}, "a.site: found the text 'head' beside edges, which are no states; leave it out"),
        ({"position": "query"}, "interventions.a.position: found the text 'query' beside edges"),
        ({"strength": 0.5}, "interventions.a.strength: found the number 0.5 beside edges"),
        ({"vector": {"mean": "same_task"}}, "interventions.a.vector: found "),
        ({"op": "zero"}, "interventions.a.edges: op zero takes none; remove it, or write op: knock_out"),
        ({"edges": None}, "a.edges: is missing, op knock_out needs it; add {from: demo_outputs, to: last}"),
        ({"edges": {"from": "lst", "to": "last"}}, "interventions.a.edges.from: unknown position 'lst'; did you mean"),
        ({"edges": {"form": "all", "to": "last"}}, "interventions.a.edges"),
        ({"heads": [0, 9]}, "interventions.a.heads[1]: there is no head 9, the model has 4; choose 0 to 3"),
        ({"packs": False}, "a.op: attention in this model of family 'falcon' takes no mask of edges; use"),
        ({"sites": ()}, "interventions.a.op: attention in this model"),
    ],
)  # fmt: skip
def test_what_is_refused(given, line):
    assert line in refusal(**given)


def test_random_edges_needs_edges():
    tree = {"version": 1, "interventions": {"a": {"op": "zero"}}, "controls": ["random_edges"]}
    with pytest.raises(
        SpecError, match="controls.0.: random_edges needs an intervention that cuts edges, there is none"
    ):
        check_study(study_of(tree))


def test_the_resolved_spec_tells_edges_and_no_states():
    found = study(heads=[0, 2], layers={"together": "1:3"})
    told = found.tree["interventions"]["a"]
    assert told == {**CUT, "layers": {"together": "1:3"}, "heads": [0, 2]}
    assert study_of(found.tree).digest == found.digest
    swept = study(edges={"from": {"sweep": ["query", "demo_inputs"]}, "to": "last"})
    assert list(swept.axes) == ["interventions.a.edges.from"]
    assert "edges" not in study_of({"version": 1, "interventions": {"a": {"op": "zero"}}}).tree["interventions"]["a"]
    assert describe_interventions(found.tree) == {
        "a": "cuts the attention of the last prompt token to the demonstrations' outputs in heads 0 and 2;"
        " layers 1:3 together."
    }


def prompt_of(length: int, origin: list[int], to: list[int]) -> tuple[Prompt, Edit]:
    positions = {"from": tuple(origin), "to": tuple(to)}
    prompt = Prompt("t", "", "", tuple(range(length)), (0,), positions)
    return prompt, Edit("knock_out", ATTENTION, 0, json.dumps("to"), 1.0, origin=json.dumps("from"))


@given(st.integers(2, 12), st.data())
def test_edges_are_the_pairs_before_and_draws_as_many_others(length, data):
    some = st.lists(st.integers(0, length - 1), unique=True, min_size=1).map(sorted)
    origin, to = data.draw(some), data.draw(some)
    prompt, edit = prompt_of(length, origin, to)
    own = edges_of(prompt, edit, length)
    assert set(own) == {(at, other) for at in to for other in origin if other < at} and len(set(own)) == len(own)
    draws = [edges_of(prompt, Edit(**{**vars(edit), "draw": draw}), length) for draw in (0, 0, 1)]
    assert draws[0] == draws[1]
    for drawn in filter(None, draws):
        for at in to:
            others = [other for by, other in drawn if by == at]
            assert len(others) == len(set(others)) == sum(by == at for by, _ in own)
            assert all(0 < other < at and other not in origin for other in others)
    few = [at for at in to if sum(0 < o < at and o not in origin for o in range(length)) < sum(o < at for o in origin)]
    assert bool(draws[0]) == (bool(own) and not few)


def test_controls_have_a_phrase():
    assert CONTROLS.get("random_edges", "").phrase == "as many edges from random other tokens cut"
