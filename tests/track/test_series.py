"""What is logged is what the run folder holds: series, single numbers, tables and config, on a planted run."""

from __future__ import annotations

import json
import re

import polars as pl
import pytest

from patchboard.measure.decodability import ALL
from patchboard.report.run_files import Run, read_run
from patchboard.track.config import config_of
from patchboard.track.series import rows, series
from patchboard.track.tables import MOST_ROWS, tables
from patchboard.track.values import summary_values
from tests.conftest import ROOT
from tests.unit import synthetic_run, test_report_heads


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("series") / "run"
    table = synthetic_run.outcomes(queries=20)
    return read_run(synthetic_run.write_run_folder(folder, table, synthetic_run.decodability(points=12)))


@pytest.fixture(scope="module")
def headed(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("heads") / "run"
    return read_run(synthetic_run.write_run_folder(folder, test_report_heads.outcomes(), None))


def pooled(run: Run, name: str, control: str, metric: str, shots: int) -> dict[int, float]:
    """Effect by layer from the table by task, literally: every query of every task (and draw) weighs the same."""
    found: dict[int, list[tuple[float, int]]] = {}
    wanted = {"intervention": name, "control": control, "metric": metric, "shots": shots}
    for row in run.effects.iter_rows(named=True):
        if row["n"] and wanted.items() <= row.items():
            found.setdefault(row["layer"], []).append((row["effect"], row["n"]))
    return {layer: sum(e * n for e, n in cells) / sum(n for _, n in cells) for layer, cells in found.items()}


def test_series_are_the_effects_by_layer(run):
    found = series(run)
    for name in ("positive", "added", "negative", "erased"):
        for metric in synthetic_run.METRICS:
            for shots in synthetic_run.SHOTS:
                series_there = found[f"effect/{name}/{metric}/shots={shots}"]
                assert series_there == pytest.approx(pooled(run, name, "", metric, shots))
                assert set(series_there) == set(range(synthetic_run.LAYERS))


def test_the_plain_name_is_the_setting_that_the_summary_chose(run):
    found = series(run)
    chosen = {name: entry["at"]["prompts.shots"] for name, entry in run.summary["interventions"].items()}
    assert (chosen["positive"], chosen["negative"]) == (0, 4), "planted: one installs, the other destroys"
    for name, shots in chosen.items():
        assert found[f"effect/{name}/logprob"] == found[f"effect/{name}/logprob/shots={shots}"]
        assert found[f"effect/{name}/logprob"] != found[f"effect/{name}/logprob/shots={4 - shots}"]
    other = found["control/positive/other_task/accuracy"]
    assert other == pytest.approx(pooled(run, "positive", "other_task", "accuracy", chosen["positive"]))
    assert not any("/self/" in name for name in found)


def test_cd_is_that_of_all_labels(run):
    found = series(run)
    for shots in synthetic_run.CD_SHOTS:
        table = run.decodability.filter(task=ALL, shots=shots)
        assert found[f"cd/shots={shots}"] == dict(zip(table["layer"], table["cd"], strict=True))
    assert found["cd"] == found[f"cd/shots={max(synthetic_run.CD_SHOTS)}"]
    assert found["cd"] != found["cd/shots=0"]


def test_a_row_a_layer_holds_all_series(run):
    found, by_row = series(run), rows(run)
    assert [row["layer"] for row in by_row] == list(range(synthetic_run.LAYERS))
    again = {name: {row["layer"]: row[name] for row in by_row if name in row} for name in found}
    assert again == found


def test_heads_have_a_series_each_and_a_head_a_layer_has_one(headed):
    found = series(headed)
    for head in range(test_report_heads.HEADS):
        table = headed.curves.filter(intervention="each", control="", head=head)
        assert found[f"effect/each/accuracy/head={head}"] == dict(zip(table["layer"], table["effect"], strict=True))
    assert "effect/each/accuracy" not in found
    assert set(found["effect/one/accuracy"]) == set(range(test_report_heads.LAYERS))
    assert set(found["effect/joint/accuracy/head=0"]) == {0}, "layers edited together stand at the earliest"
    assert "cd" not in found


def test_single_numbers_are_those_of_the_summary(run):
    values = summary_values(run)
    for name, entry in run.summary["interventions"].items():
        assert values[f"best/layer/{name}"] == entry["best_layer"]
        assert values[f"best/ci_low/{name}/kl"] == entry["metrics"]["kl"]["ci_low"]
        assert values[f"best/effect/{name}/accuracy"] == entry["effect"]
        assert values[f"best/cd/{name}"] == entry["cd_at_best_layer"]
        assert values[f"correlation/{name}"] == entry["correlation"]["spearman"]
    assert values["best/layer/positive"] == synthetic_run.BEST
    controls = run.summary["interventions"]["positive"]["controls"]
    assert values["best/control/positive/other_task"] == controls["other_task"]["effect"]
    assert values["cd_max"] == run.summary["decodability"]["cd"]
    assert values["noise_floor/logprob"] == 2.4e-6 and values["flip_rate"] == 0 and values["seconds"] == 18.6
    json.dumps(values, allow_nan=False)


def test_an_intervention_that_was_never_measured_has_no_numbers(tmp_path):
    outcomes = synthetic_run.outcomes(queries=6, layers=2).with_columns(
        pl.when(intervention="erased").then(float("nan")).otherwise("clean").alias("clean"),
        pl.when(intervention="erased").then(float("nan")).otherwise("patched").alias("patched"),
    )
    run = read_run(synthetic_run.write_run_folder(tmp_path / "run", outcomes, None))
    values, found = summary_values(run), series(run)
    assert "best/layer/positive" in values and "effect/positive/accuracy" in found
    assert not [name for name in (*values, *found) if "erased" in name]


def test_tables_have_all_rows_those_that_matter_first(run):
    found = tables(run)
    assert list(found) == ["effects", "curves", "decodability"]
    assert len(found["effects"]) == min(MOST_ROWS, len(run.effects)) and len(found["curves"]) == len(run.curves)
    head = found["curves"].head(8 * 4)
    assert set(head["control"]) == {""} and set(head["metric"]) == {"accuracy"}
    assert found["curves"].columns == run.curves.columns
    numbers = found["effects"].select(pl.selectors.float()).to_series(0)
    assert not numbers.is_nan().any(), "JSON has no NaN"


def test_config_is_flat_by_path_and_nested(run):
    found = config_of(run.spec, "d" * 64)
    assert found["spec"] == run.spec
    assert found["prompts.shots"] == [0, 4], "swept within the run: its values"
    assert found["interventions.positive.vector.mean"] == "same_task" and found["decodability.k"] == 10
    assert found["metrics"] == run.spec["metrics"]


def test_every_name_is_documented(run, headed):
    page = (ROOT / "docs" / "wandb.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`[^|]+`) \|", page.split("## What is logged")[1], re.MULTILINE)
    told = [re.sub(r"NAME|METRIC|CONTROL", "[^/]+", name) for name in re.findall(r"`([^`]+)`", " ".join(cells))]
    told = [re.sub(r"shots=\d", r"[\\w.]+=\\S+", name) for name in told]
    told += [rf"{name}/head=\d+" for name in told if name.startswith(("effect", "control"))]  # as the text says
    for of in (run, headed):
        names = [*series(of), *summary_values(of)]
        assert len(names) > 20
        assert [name for name in names if not any(re.fullmatch(pattern, name) for pattern in told)] == []
