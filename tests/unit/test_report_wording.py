"""Sentences and numbers: what is claimed is what the interval allows."""

import pytest

from patchboard.report.described import describe
from patchboard.report.described_edits import describe_interventions
from patchboard.report.findings import findings
from patchboard.report.numbers import fraction, listed, plain, signed, spans, with_interval
from patchboard.report.run_files import setting_label
from tests.unit import synthetic_run


def point(effect=0.3, low=0.2, high=0.4, clean=0.5, **other):
    return {
        "at": {}, "best_layer": 3, "layers": "3", "head": None, "effect": effect, "ci_low": low, "ci_high": high,
        "n": 50, "clean": clean, "patched": clean + effect, "controls": {}, "conversion": None,
        "cd_at_best_layer": None, "chance": None, "correlation": None, "decodable_but_not_causal": None, **other,
    }  # fmt: skip


def told(one) -> str:
    return findings({"metric": "accuracy", "interventions": {"a": {"points": [one]}}, "accuracy_against_cd": None})[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.38512, "+0.385"), (-12.345, "-12.3"), (1234.5, "+1234"), (0.0, "0"), (-0.0, "0"), (2.4e-6, "+2e-06"),
     (None, "-"), (float("nan"), "-"), (-0.0005, "-0.001"), (0.9996, "+1.000")],
)  # fmt: skip
def test_signed(value, text):
    assert signed(value) == text
    assert plain(value) == text.removeprefix("+").replace("e+", "e")


def test_numbers_in_words():
    assert fraction(0.976) == "0.98" and fraction(None) == "-"
    assert spans([7, 1, 2, 3, 5]) == "1-3, 5, 7" and spans([]) == ""
    assert (listed(["a"]), listed("ab"), listed("abc"), listed([])) == ("a", "a and b", "a, b and c", "")
    assert with_interval({"effect": 0.3, "ci_low": 0.2, "ci_high": 0.4}) == "+0.300 [+0.200, +0.400]"
    assert with_interval({"effect": 0.0, "ci_low": 0.0, "ci_high": 0.0}) == "0"
    assert with_interval({"effect": 0.0, "ci_low": -0.1, "ci_high": 0.1}) == "0 [-0.100, +0.100]"


def test_settings_are_named_shortly_unless_that_is_ambiguous():
    assert setting_label({}) == ""
    assert setting_label({"prompts.shots": 4, "interventions.a.strength": 2.0}) == "shots = 4, strength = 2.0"
    both = {"interventions.a.strength": 1, "interventions.b.strength": 2}
    assert setting_label(both) == "interventions.a.strength = 1, interventions.b.strength = 2"


def test_an_interval_that_covers_zero_claims_nothing():
    assert "not told apart from no effect" in told(point(0.1, -0.05, 0.2))
    assert "not told apart" not in told(point())
    assert "not told apart" not in told(point(-0.1, -0.2, -0.05))


def test_an_overlapping_control_is_pointed_at():
    far, near = ({"effect": v, "ci_low": v - 0.05, "ci_high": v + 0.05} for v in (0.0, 0.18))
    assert "overlaps that of random: " in told(point(controls={"self": far, "random": near}))
    assert "overlaps" not in told(point(controls={"self": far}))
    assert "overlaps" not in told(point(0.1, -0.2, 0.4, controls={"random": near}))  # nothing is claimed anyway


def test_decodable_is_not_causal_is_said_where_it_is_so_only():
    assert "Decodable is not causal: at layers 4-6 CD is high" in told(point(decodable_but_not_causal=[4, 5, 6]))
    assert "Decodable is not causal: at layer 4 CD" in told(point(decodable_but_not_causal=[4]))
    for nothing in (None, []):
        assert "not causal" not in told(point(decodable_but_not_causal=nothing))


def test_no_room_to_move_is_said():
    assert "little room to fall" in told(point(-0.01, -0.03, 0.01, clean=0.02))
    assert "little room to rise" in told(point(0.01, -0.01, 0.02, clean=0.98))
    assert "room" not in told(point(0.4, 0.3, 0.5, clean=0.02, decodable_but_not_causal=[1]))
    assert "room" not in told(point(0.0, -0.1, 0.1, clean=0.5))


def test_a_point_without_queries_is_said_to_be_one():
    assert told({**point(), "effect": None}) == ("a: no query could be measured.")


def test_interventions_are_described():
    sentences = describe_interventions(synthetic_run.spec())
    assert sentences["positive"].startswith(
        "replaces the residual stream after the block at the last prompt token by the mean state of the prompt's own"
    )
    assert "minus that of all tasks" in sentences["added"]
    assert sentences["erased"].startswith("removes the 4-dimensional subspace")
    assert all(sentence.endswith("every layer, one at a time.") for sentence in sentences.values())


def test_sweeps_may_stand_anywhere():
    spec = synthetic_run.spec()
    positive, added, negative, erased = spec["interventions"].values()
    positive["strength"] = {"sweep": [0.5, 1]}
    positive["layers"] = {"together": "all"}
    added["vector"] = {"sweep": [added["vector"], negative["vector"]]}
    negative["vector"]["mean"] = {"sweep": ["null_task", "other_task"]}
    negative["op"] = {"sweep": ["patch", "add"]}
    erased.update(position=["last", 3], site={"sweep": ["resid_post", "mlp_out"]}, vector=None, op="zero")
    spec["model"] = {"sweep": [{"name": "a"}, {"name": "b"}]}
    spec["tasks"] = {"sweep": [{"family": "bitwise"}, {"family": "pos"}]}
    spec["statistics"]["level"] = {"sweep": [0.9, 0.95]}
    sentences = describe_interventions(spec)
    assert "with strength 0.5 and 1 (swept); layers all together" in sentences["positive"]
    assert "null_task and other_task (swept)" in sentences["negative"]
    assert sentences["erased"].startswith(
        "sets resid_post and mlp_out (swept) at the last prompt token and token 3 to zero"
    )
    told = " ".join(describe(spec, synthetic_run.manifest(), ["AND"]))
    assert "family bitwise and pos (swept)" in told and "level 0.9 and 0.95 (swept)" in told


def test_layers_with_all_behind_or_before_them_are_told_so():
    one = point(
        -0.5, -0.6, -0.4, best_layer=1, layers="1,2,3", cd_at_best_layer=0.9, chance=0.14, causal=[0, 1],
        decodable_but_not_causal=[3], correlation={"spearman": 0.5, "ci_low": 0.1, "ci_high": 0.9, "layers": 4},
    )  # fmt: skip

    def sentences(axis, **changes) -> str:
        entry = {"points": [one | {"axis": axis} | changes]}
        return findings({"metric": "accuracy", "interventions": {"a": entry}, "accuracy_against_cd": None})[0]

    onwards, upto = sentences("onwards"), sentences("upto", best_layer=3, layers="0,1,2,3")
    assert "at layers 1-3 together (from layer 1 on), where" in onwards
    assert "at layers 0-3 together (up to layer 3), where" in upto
    assert "Over all queries, the interval of editing from layers 0-1 on leaves out zero, at no other layer." in onwards
    assert "the interval of editing up to layers 0-1 leaves out zero" in upto
    assert "CD after layer 1 is 0.90" in onwards and "CD after layer 3 is 0.90" in upto
    assert "Over 4 layers, CD after each and the effect of editing from it on have rank correlation" in onwards
    assert "at layer 3 CD is high, yet the interval of the effect of editing from there on covers zero" in onwards
    assert "the effect of editing up to there covers zero" in upto
    assert "leaves out zero" not in sentences("onwards", ci_high=0.1), "nothing is claimed beside what is taken back"
    alone = sentences(None)
    assert "at layers 1-3 together, where" in alone and "leaves out zero" not in alone and "CD there is" in alone


def test_several_edits_are_described_in_turn():
    spec = synthetic_run.spec()
    edit = {**spec["interventions"]["positive"], "layers": [2, 3]}
    spec["interventions"] = {"both": {"op": None, "vector": None, "edits": [edit, {**edit, "op": "invented"}]}}
    (sentence,) = describe_interventions(spec).values()
    assert sentence.count("layers 2 and 3") == 2 and "; then applies invented with" in sentence
