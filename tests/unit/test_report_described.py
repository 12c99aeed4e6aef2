"""Head sweeps and resampling in words: which heads, one at a time or together, and whose states."""

import pytest

from patchboard.report.described_edits import describe_interventions
from patchboard.report.numbers import place_label, place_words
from tests.unit import synthetic_run


def test_places_in_words():
    assert [place_label("12"), place_label("12", -1), place_label("12", 3), place_label("0,1,2,5", 1)] == [
        "12", "12", "12.h3", "0-2, 5.h1",
    ]  # fmt: skip
    assert place_words("12") == "layer 12" and place_words("12", 0) == "head 0 of layer 12"
    assert place_words("0,1,2") == "layers 0-2 together" and place_words("0,2", 1) == "head 1 of layers 0, 2 together"


def told(**changes) -> str:
    spec = synthetic_run.spec()
    edit = {**spec["interventions"]["negative"], "site": "head", "heads": "all", **changes}
    return describe_interventions({"interventions": {"a": edit}})["a"]


def test_heads_are_described():
    assert told().startswith("replaces the output of every head (one at a time), before the output projection, at the")
    assert "the output of heads 0 and 2 (one at a time)" in told(heads=[0, 2])
    assert "the output of head 3, before" in told(heads=3, layers=2) and told(heads=3, layers=2).endswith("; layer 2.")
    assert "the output of head 0 and 1 (swept)" in told(heads={"sweep": [0, 1]})
    zero = {"op": "zero", "vector": None, "site": "head", "heads": [0, 2], "layers": [2], "position": "last"}
    spec = {"a": {"op": None, "edits": [{**zero, "strength": 1.0}, {**zero, "heads": 1, "strength": 1.0}]}}
    sentence = describe_interventions({"interventions": spec})["a"]
    assert sentence.startswith("sets the output of heads 0 and 2, before the output projection, at the last prompt")
    assert "to zero; layer 2; then sets the output of head 1," in sentence


@pytest.mark.parametrize(
    ("source", "who"),
    [(None, "another task (with the same query"), ("other_task", "another task (with the same query"),
     ("null_task", "Null (with"), ("XOR", "XOR (with"), ("same_task", "the task's next query;"),
     ({"sweep": ["XOR", "OR"]}, "XOR and OR (swept)")],
)  # fmt: skip
def test_resample_is_described_with_its_source(source, who):
    sentence = told(op="resample", vector=None, source=source, site="resid_post")
    assert sentence.startswith("replaces the residual stream after the block at the last prompt token by what it is in")
    assert who in sentence


def test_a_source_of_the_rows_is_told_from_a_task():
    edit = {"op": "patch", "layers": 1, "site": "resid_post", "position": "S2.last", "strength": 1.0}
    spec = {"interventions": {"a": edit | {"source": {"name": "flip", "layer": 0, "position": "IO"}}}}
    assert describe_interventions(spec, ["ioi"])["a"] == (
        "replaces the residual stream after the block at the last of the tokens of S2 by what it is in the row's"
        " counterfactual input flip, read at layer 0, the tokens of IO; layer 1."
    )
    spec["interventions"]["a"]["source"] = "ioi"
    assert "in a prompt of ioi (with the same query" in describe_interventions(spec, ["ioi"])["a"]
    spec["interventions"]["a"]["source"] = "clean"
    assert "in the prompt's own unedited run; layer 1" in describe_interventions(spec, ["ioi"])["a"]


def test_paths_say_who_sends_and_who_receives():
    sender = {"site": "head", "layers": "all", "heads": "all", "position": "S2"}
    path = {"op": "path", "source": "flip", "sender": sender, "strength": 1.0}
    query, output = {"site": "q", "heads": [[3, 1]]}, {"site": "mlp_out", "layer": 2}
    through = {**path, "receivers": [{**each, "position": "last"} for each in (query, output)], "frozen": "none"}
    told = describe_interventions({"interventions": {"a": path, "b": through}}, ["ioi"])
    start = (
        "makes the output of every head (one at a time), before the output projection, at the tokens of S2 what it is"
        " in the row's counterfactual input flip, felt by "
    )
    end = "; every layer, one at a time."
    assert told["a"] == f"{start}the logits alone, all later attention held to the clean run{end}"
    last = "at the last prompt token"
    receivers = f"the query of head 3.1 {last} and the MLP's output of layer 2 {last}"
    assert told["b"] == f"{start}{receivers} alone, all in between following{end}"


def test_features_say_which_and_of_what():
    def features(op="ablate", **vector):
        fit = {"shots": 4, "prompts": 20, "only": "all"}
        section = {"op": op, "site": "resid_post", "layers": [2], "position": "last", "strength": 1.0}
        edit = {**section, "vector": {"sae": "d.safetensors", **fit, **vector}}
        return describe_interventions({"interventions": {"a": edit}})["a"]

    of = "of the dictionary d.safetensors"
    assert features(features=[3, 5]).startswith(f"removes features 3 and 5 {of} (up to 20 prompts a task of 4 demonstr")
    assert features("clamp_features", features=[3], value=2.0).startswith(
        f"clamps features 3 {of}, at 2.0 times the largest activation of each (up to"
    )
    chosen = {"select": ["same_task", "all_tasks"], "top": 4}
    for by, told in ((None, "differs most between {} and {}"), ("rise", "in {} is most above that in {}"),
                     ("fall", "in {} is most below that in {}")):  # fmt: skip
        told = told.format("the prompt's own task", "all tasks")
        assert f"removes the 4 features {of} whose mean activation {told} (up to" in features(**chosen, by=by)
    swept = {**chosen, "select": {"sweep": [["XOR", "OR"], ["XOR", "AND"]]}, "top": {"sweep": [1, 2]}}
    assert f"the 1 and 2 (swept) features {of} chosen between" in features(**swept)
    assert "by size and rise (swept)" in features(**chosen, by={"sweep": ["size", "rise"]})
