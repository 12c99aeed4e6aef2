"""The rule of `patchboard recommend` on planted outcomes, literally; and the command on a run."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from patchboard.errors import SpecError
from patchboard.measure.outcome_index import index_outcomes
from patchboard.measure.recommend import Rule, recommendations
from patchboard.measure.statistics import Bootstrap
from patchboard.report.recommended import not_measured, section_of, sentences
from patchboard.store.schema import OUTCOMES

STRENGTH = "interventions.a.strength"
BOOTSTRAP = Bootstrap(200, 0.95, 0)
EFFECT = {(1, 1.0): 0.2, (1, 4.0): 0.3, (2, 1.0): 0.5, (2, 4.0): 0.8, (3, 1.0): -0.6, (3, 4.0): -0.9}
RANDOM = {(3, 1.0): 0.5, (3, 4.0): 0.5}
ON_TEXTS = {(1, 1.0): 0.01, (1, 4.0): 0.09, (2, 1.0): 0.05, (2, 4.0): 0.7, (3, 1.0): 0.02, (3, 4.0): 0.02}


def planted(queries: int = 40, odd_effect: float | None = None, controls: tuple[str, ...] = ("random", "unrelated")):
    """A cell a layer and strength. odd_effect: of all cells on odd queries, which report."""
    rows = []

    def add(control: str, metric: str, layer: int, strength: float, change: float, noise: float) -> None:
        rng = np.random.default_rng([layer, int(strength), len(control)])
        for task in ("AND", "OR"):
            for query in range(queries):
                here = change if odd_effect is None or query % 2 == 0 else odd_effect
                rows.append(
                    {"task": task, "query": query, "intervention": "a", "control": control, "vector_task": task,
                     "op": "add", "site": "resid_post", "layer": layer, "layers": str(layer), "head": -1,
                     "position": "last", "strength": strength, "shots": 0, "seed": 0, "metric": metric, "clean": 0.0,
                     "patched": here + noise * rng.normal(), STRENGTH: strength}
                )  # fmt: skip

    for (layer, strength), change in EFFECT.items():
        add("", "accuracy", layer, strength, change, 0.1)
        if "random" in controls:
            add("random", "accuracy", layer, strength, RANDOM.get((layer, strength), 0.01), 0.0)
        if "unrelated" in controls:
            add("unrelated", "kl", layer, strength, ON_TEXTS[layer, strength], 0.0)
            add("unrelated", "accuracy", layer, strength, -0.9, 0.0)  # another measure, which no bound is on
    return index_outcomes(pl.DataFrame(rows, schema_overrides=OUTCOMES))


def chosen(rule: Rule, **changes) -> dict:
    (entry,) = recommendations(planted(**changes), "accuracy", rule, BOOTSTRAP)
    return entry


def literally(rule: Rule) -> tuple[int, float] | None:
    """The rule on the planted numbers themselves."""
    kept = {
        place: abs(effect)
        for place, effect in EFFECT.items()
        if (rule.random is None or RANDOM.get(place, 0.01) <= rule.random * abs(effect))
        and (rule.kl is None or ON_TEXTS[place] <= rule.kl)
        and (rule.direction == "either" or (effect > 0) == (rule.direction == "rise"))
    }
    return max(kept, key=lambda place: kept[place]) if kept else None


@pytest.mark.parametrize("random", [0.5, 0.7, None])
@pytest.mark.parametrize("kl", [0.1, 0.06, 0.001, None])
@pytest.mark.parametrize("direction", ["either", "rise", "fall"])
def test_it_is_the_largest_within_the_bounds(random, kl, direction):
    rule = Rule(random, kl, direction)
    entry, place = chosen(rule), literally(rule)
    choice = entry["choice"]
    assert (choice and (choice["layer"], choice["strength"])) == place
    if place:
        assert entry["effect"]["effect"] == pytest.approx(EFFECT[place], abs=0.08) and not entry["breaks"]
        assert entry["kl"]["effect"] == pytest.approx(ON_TEXTS[place])
        assert choice[STRENGTH] == place[1]


def test_what_is_told_is_of_the_other_half():
    entry = chosen(Rule(), odd_effect=0.0)
    assert entry["choice"]["layer"] == 2 and entry["chosen_by"]["effect"] == pytest.approx(0.5, abs=0.08)
    assert entry["effect"]["effect"] == pytest.approx(0, abs=0.05) and entry["effect"]["n"] == 40
    assert entry["breaks"] == ["effect"]
    assert "not told apart from none" in " ".join(sentences(entry, Rule()))


def test_bounds_that_the_other_half_breaks():
    assert chosen(Rule(), odd_effect=0.5)["breaks"] == ["random", "kl"]


def test_refusals_are_counted_and_the_unbounded_best_is_told():
    entry = chosen(Rule())
    assert entry["considered"] == 6 and entry["refused"] == {"random": 2, "kl": 1}
    assert (entry["without_bounds"]["layer"], entry["without_bounds"]["strength"]) == (3, 4.0)
    told = " ".join(sentences(entry, Rule()))
    assert told.startswith("a: layer 2, strength 1.") and "Without bounds it would be layer 3, strength 4" in told
    none = chosen(Rule(kl=0.0))
    assert none["choice"] is None and "no place keeps to the bounds: of 6" in " ".join(sentences(none, Rule(kl=0.0)))


def test_what_was_not_measured_refuses_nothing_and_is_told():
    entry = chosen(Rule(), controls=())
    assert entry["choice"]["layer"] == 3 and entry["measured"] == {"random": False, "kl": False}
    assert entry["random"] is None and entry["kl"] is None
    told = list(not_measured([entry], Rule()))
    assert len(told) == 2 and "add random to controls" in told[0] and "add unrelated" in told[1]
    assert not list(not_measured([entry], Rule(None, None)))


def test_an_unknown_metric():
    with pytest.raises(SpecError, match="no metric 'nats'"):
        recommendations(planted(), "nats", Rule(), BOOTSTRAP)


def test_the_section_is_the_intervention_at_the_chosen_place():
    tree = {"interventions": {"a": {"op": "add", "layers": "all", "strength": {"sweep": [1, 4]}, "site": "resid_post"}}}
    section = section_of(chosen(Rule()), tree)
    assert section == {"op": "add", "layers": [2], "strength": 1.0, "site": "resid_post"}
    assert tree["interventions"]["a"]["layers"] == "all"
    several = {"interventions": {"a": {"edits": [{"op": "add"}, {"op": "add", "strength": {"sweep": [1, 4]}}]}}}
    entry = chosen(Rule())
    entry["choice"]["interventions.a.edits[1].strength"] = entry["choice"].pop(STRENGTH)
    assert section_of(entry, several) == {"edits": [{"op": "add"}, {"op": "add", "strength": 1.0}]}


def test_the_command(llama_folder, tmp_path, capsys):
    """Its JSON is the door's, its section is a spec that runs, and a wrong bound is one line."""
    import patchboard as pb
    from patchboard.commands.main import main
    from patchboard.spec.yaml_text import read_yaml
    from tests.contract.tiny import one_error, run, tiny_tree

    vector = {"difference": ["same_task", "all_tasks"], "shots": 1, "prompts": 4}
    swept = {"op": "add", "vector": vector, "layers": "all", "strength": {"sweep": [1, 8]}}
    rest = {"metrics": ["logprob", "kl"], "controls": ["random"], "decodability": None}
    tree = tiny_tree(llama_folder, interventions={"a": swept}, **rest)
    assert run(tree, tmp_path / "run") == 0
    capsys.readouterr()
    assert main(["recommend", str(tmp_path / "run"), "--max-random", "none", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert entries == pb.open(tmp_path / "run").recommend(random=None)
    assert main(["recommend", str(tmp_path / "run"), "--max-random", "none"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("a: layer") and lines[-1].startswith("not measured")
    section = read_yaml("\n".join(lines[:-1]), "printed")
    assert run({**tree, **section}, tmp_path / "again") == 0
    choice = entries[0]["choice"]
    again = pb.open(tmp_path / "again").effects.filter(pl.col("control") == "")
    assert set(again["layer"]) == {choice["layer"]} and set(again["strength"]) == {choice["strength"]}
    capsys.readouterr()
    for flag, said in (("--max-kl=-1", "a number of at least 0"), ("--intervention=b", "no intervention 'b'")):
        assert main(["recommend", str(tmp_path / "run"), flag]) == 2
        assert said in one_error(capsys)
