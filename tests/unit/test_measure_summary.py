"""The summary against planted truth, and its honesty: other queries choose than are reported."""

import json

import numpy as np
import polars as pl
import pytest
import scipy.stats

from patchboard.measure.effects import curves
from patchboard.measure.outcome_index import index_outcomes
from patchboard.measure.relation import accuracy_against_cd, spearman
from patchboard.measure.summary import summarise, without_nan
from patchboard.store.schema import DECODABILITY, OUTCOMES
from tests.unit import synthetic_run
from tests.unit.synthetic_run import BEST, BOOTSTRAP


@pytest.fixture(scope="module")
def outcomes() -> pl.DataFrame:
    return synthetic_run.outcomes()


@pytest.fixture(scope="module")
def cd() -> pl.DataFrame:
    return synthetic_run.decodability()


@pytest.fixture(scope="module")
def made(outcomes, cd) -> dict:
    return summarise(index_outcomes(outcomes), cd, "accuracy", BOOTSTRAP)


def plain(effect_of, layers=range(6), queries=20, tasks=("AND", "OR"), **columns) -> pl.DataFrame:
    """Outcomes of one intervention whose effect is a given function of (layer, query)."""
    rows = [
        {"task": task, "query": query, "intervention": "a", "control": "", "vector_task": task, "op": "patch",
         "site": "resid_post", "layer": layer, "layers": str(layer), "head": -1, "position": "last",
         "strength": 1.0, "shots": 0, "seed": 0, "metric": "accuracy", "clean": 0.0,
         "patched": float(effect_of(layer, query)), **columns}
        for task in tasks for layer in layers for query in range(queries)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema_overrides=OUTCOMES)


def overall(cds, width=0.02, shots=4) -> pl.DataFrame:
    rows = [
        {"task": "ALL", "layer": layer, "shots": s, "k": 10, "n": 70, "cd": value / (1 + shots - s),
         "ci_low": value - width, "ci_high": value + width, "chance": 0.2, "accuracy": 0.5}
        for s in (0, shots) for layer, value in enumerate(cds)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=DECODABILITY)


def test_finds_what_is_planted(made):
    assert made["metric"] == "accuracy" and made["version"] == 1
    positive, negative = made["interventions"]["positive"], made["interventions"]["negative"]
    assert (positive["best_layer"], positive["shots"]) == (BEST, 0)
    assert (negative["best_layer"], negative["shots"]) == (BEST, 4)
    assert positive["ci_low"] > 0.25 and negative["ci_high"] < -0.15
    assert positive["controls"]["self"]["effect"] == 0
    assert abs(positive["controls"]["random"]["effect"]) < 0.1
    assert positive["conversion"]["other_task"]["effect"] > 0.3
    assert negative["conversion"] is None
    assert set(positive["per_task"]) == set(synthetic_run.TASKS)
    assert positive["per_task"]["XOR"]["n"] == 29 and positive["per_task"]["AND"]["n"] == 30
    assert set(positive["metrics"]) == set(synthetic_run.METRICS)


def test_every_setting_is_listed_and_the_strongest_leads(made):
    for entry in made["interventions"].values():
        assert [point["at"] for point in entry["points"]] == [{"prompts.shots": 0}, {"prompts.shots": 4}]
        sizes = [abs(point["effect_on_choosing_half"]) for point in entry["points"]]
        assert abs(entry["effect_on_choosing_half"]) == max(sizes)
        assert {**entry, "points": 0} == {**entry["points"][int(np.argmax(sizes))], "points": 0}


def test_decodable_is_not_causal(made):
    erased = made["interventions"]["erased"]
    assert erased["cd_at_best_layer"] > 0.7
    assert {4, 5, 6, 7} <= set(erased["decodable_but_not_causal"])
    assert BEST not in made["interventions"]["positive"]["decodable_but_not_causal"]


def test_even_queries_choose_and_odd_ones_are_reported():
    """Even queries are best at layer 2, odd ones at 5: a summary that peeked would say 5, or 1.0."""
    flattering = plain(lambda layer, query: {2: 1.0 if query % 2 == 0 else 0.25, 5: query % 2 * 0.9}.get(layer, 0))
    entry = summarise(index_outcomes(flattering), None, "accuracy", BOOTSTRAP)["interventions"]["a"]
    assert entry["best_layer"] == 2
    assert entry["effect_on_choosing_half"] == 1.0 and entry["effect"] == 0.25
    assert entry["n"] == 20


def test_a_negative_effect_can_be_the_largest():
    table = plain(lambda layer, query: {1: -0.8, 4: 0.5}.get(layer, 0.1))
    entry = summarise(index_outcomes(table), None, "accuracy", BOOTSTRAP)["interventions"]["a"]
    assert (entry["best_layer"], entry["effect"]) == (1, pytest.approx(-0.8))


def test_cd_is_taken_at_the_largest_shots_and_marks_what_does_nothing():
    table = plain(lambda layer, query: layer == 3)
    entry = summarise(index_outcomes(table), overall([0.2, 0.5, 0.7, 0.9, 0.95, 0.61]), "accuracy", BOOTSTRAP)
    entry = entry["interventions"]["a"]
    assert (entry["cd_at_best_layer"], entry["cd_shots"], entry["chance"]) == (0.9, 4, 0.2)
    # five labels: high is an interval above (1 + .2) / 2 = .6; layer 5 reaches down to .59
    assert entry["decodable_but_not_causal"] == [2, 4]


def test_correlation_is_spearmans_and_its_interval_holds_it(outcomes, cd, made):
    own = outcomes.filter(metric="accuracy", control="", intervention="positive", shots=0)
    curve = curves(index_outcomes(own), BOOTSTRAP)
    of_layers = cd.filter(task="ALL", shots=4).sort("layer")["cd"]
    expected = scipy.stats.spearmanr(of_layers, curve.sort("layer")["effect"]).statistic
    found = made["interventions"]["positive"]["points"][0]["correlation"]
    assert found["spearman"] == pytest.approx(expected)
    assert found["ci_low"] <= expected <= found["ci_high"] and found["layers"] == 8


def test_correlation_is_sure_where_the_data_are_and_absent_below_four_layers():
    cds = overall([0.2, 0.3, 0.5, 0.7, 0.8, 0.9])
    rising = plain(lambda layer, query: layer * 0.1 + query * 0.001)
    entry = summarise(index_outcomes(rising), cds, "accuracy", BOOTSTRAP)["interventions"]["a"]
    assert [round(entry["correlation"][key], 9) for key in ("spearman", "ci_low", "ci_high")] == [1, 1, 1]
    short = summarise(index_outcomes(rising.filter(pl.col("layer") < 3)), cds, "accuracy", BOOTSTRAP)
    assert short["interventions"]["a"]["correlation"] is None
    flat = summarise(index_outcomes(plain(lambda layer, query: 0.5)), cds, "accuracy", BOOTSTRAP)
    assert flat["interventions"]["a"]["correlation"] == {
        "spearman": None, "ci_low": None, "ci_high": None, "layers": 6}  # fmt: skip


def test_one_cell_of_several_layers_is_summarised_too(cd):
    together = plain(lambda layer, query: 0.3, layers=[2]).with_columns(layers=pl.lit("2,3,4"))
    entry = summarise(index_outcomes(together), cd, "accuracy", BOOTSTRAP)["interventions"]["a"]
    assert (entry["best_layer"], entry["layers"], entry["correlation"]) == (2, "2,3,4", None)
    assert entry["effect"] == pytest.approx(0.3) and entry["cd_at_best_layer"] is not None


def test_a_field_swept_for_another_intervention_is_no_setting_of_this_one():
    path = "interventions.b.strength"
    one = plain(lambda layer, query: 0.2).with_columns(pl.lit(None, pl.Float64).alias(path))
    others = [
        plain(lambda layer, query, s=s: s * (layer == 4)).with_columns(
            pl.lit("b").alias("intervention"), pl.lit(s).alias(path)
        )
        for s in (0.5, 2.0)
    ]
    made = summarise(index_outcomes(pl.concat([one, *others])), None, "accuracy", BOOTSTRAP)["interventions"]
    assert [point["at"] for point in made["a"]["points"]] == [{}]
    assert [point["at"] for point in made["b"]["points"]] == [{path: 0.5}, {path: 2.0}]
    assert made["b"]["at"] == {path: 2.0} and made["b"]["effect"] == 2.0


def test_accuracy_against_cd_is_the_line_through_the_planted_points(cd):
    rows = []
    for task, cds in {
        "AND": (0.3, 0.5, 0.9),
        "OR": (0.2, 0.4, 0.6),
        "Null": (0.9, 0.1, 0.1),
        "ALL": (0.4, 0.5, 0.6),
    }.items():
        for shots, value in zip((0, 1, 4), cds, strict=True):
            for layer, factor in ((2, 0.5), (6, 1.0), (7, 0.9)):
                rows.append({"task": task, "layer": layer, "shots": shots, "k": 10, "n": 40, "cd": value * factor,
                             "ci_low": 0.0, "ci_high": 1.0, "chance": 1 / 3,
                             "accuracy": 0.1 + 0.8 * value if task != "Null" else 0.5})  # fmt: skip
    (fit,) = accuracy_against_cd(pl.DataFrame(rows, schema=DECODABILITY))
    assert (fit["layer"], fit["n"]) == (6, 4)  # two tasks, shots 1 and 4
    assert [fit[key] for key in ("slope", "intercept", "r2")] == pytest.approx([0.8, 0.1, 1.0])

    (fit,) = accuracy_against_cd(cd)
    xs, ys = ([point[key] for point in fit["points"]] for key in ("cd", "accuracy"))
    line = scipy.stats.linregress(xs, ys)
    assert [fit[key] for key in ("slope", "intercept", "r2")] == pytest.approx(
        [line.slope, line.intercept, line.rvalue**2]
    )
    assert fit["n"] == 18 and fit["r2"] > 0.3


def test_settings_that_share_their_decodability_are_one_fit(cd):
    twice = pl.concat([cd.with_columns(pl.lit(s).alias("prompts.shots")) for s in (0, 4)])
    assert len(accuracy_against_cd(twice)) == 1
    other = cd.with_columns(pl.lit(8).alias("prompts.shots"), accuracy=1 - pl.col("accuracy"))
    assert [fit["at"] for fit in accuracy_against_cd(pl.concat([twice, other]))] == [
        {"prompts.shots": 0}, {"prompts.shots": 8}]  # fmt: skip
    unknown = twice.with_columns(accuracy=pl.lit(float("nan")))
    assert [fit["n"] for fit in accuracy_against_cd(unknown)] == [0]


def test_cd_of_the_same_setting_is_used(outcomes, cd):
    table = plain(lambda layer, query: layer == 3, **{"model.name": "x"})
    table = pl.concat([table, table.with_columns(pl.lit("y").alias("model.name"))])
    cds = pl.concat([overall([v] * 6).with_columns(pl.lit(m).alias("model.name")) for m, v in (("x", 0.4), ("y", 0.9))])
    points = summarise(index_outcomes(table), cds, "accuracy", BOOTSTRAP)["interventions"]["a"]["points"]
    assert [(point["at"]["model.name"], point["cd_at_best_layer"]) for point in points] == [
        ("x", 0.4),
        ("y", 0.9),
    ]


def test_is_json_without_decodability_without_queries_and_without_interventions(outcomes, cd):
    for table, decodability in (
        (outcomes, None),
        (outcomes, cd),
        (outcomes.clear(), cd),
        (outcomes.clear(), None),
        (plain(lambda layer, query: np.nan), cd),
        (plain(lambda layer, query: 1.0, queries=1), cd),
    ):
        made = summarise(index_outcomes(table), decodability, "accuracy", BOOTSTRAP)
        assert json.loads(json.dumps(made, allow_nan=False)) == made
    only_chose = made["interventions"]["a"]
    assert (only_chose["best_layer"], only_chose["effect_on_choosing_half"], only_chose["effect"]) == (
        0,
        1.0,
        None,
    )


def test_without_nan_reaches_into_everything():
    nest = {"a": [1, float("nan"), {"b": float("inf")}], "c": (2.0, True), "d": "nan"}
    assert without_nan(nest) == {"a": [1, None, {"b": None}], "c": [2.0, True], "d": "nan"}


def test_spearman_equals_scipys_with_ties():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, size=9).astype(float)
    y = rng.integers(0, 3, size=(20, 9)).astype(float)
    y[3] = 1.0
    y[4, 2] = np.nan
    found = spearman(x, y)
    for row, value in zip(y, found, strict=True):
        if np.isnan(row).any() or np.ptp(row) == 0:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(scipy.stats.spearmanr(x, row).statistic)
