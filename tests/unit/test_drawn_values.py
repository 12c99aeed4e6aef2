"""What a reader sees is what the tables hold: the right number at the right place, with its own sign."""

import argparse
import itertools

import numpy as np
import polars as pl
import pytest

from patchboard.experiment.command import print_findings
from patchboard.experiments.intervention_bars.figures import drawings as bar_drawings
from patchboard.experiments.synthetic.figures import _matrix_figures
from patchboard.measure.decodability import ALL
from patchboard.report.decodability_figures import cd_figures
from patchboard.report.run_files import read_run
from patchboard.report.style import styled
from tests.unit import synthetic_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    outcomes = synthetic_run.outcomes(queries=10).filter(metric="accuracy")
    cd = synthetic_run.decodability(points=12)
    return synthetic_run.write_run_folder(tmp_path_factory.mktemp("drawn"), outcomes, cd)


def written(axes) -> dict[tuple[int, int], float]:
    """(column, row) -> the number written there."""
    return {(round(x), round(y)): float(text.get_text()) for text in axes.texts for x, y in [text.get_position()]}


def test_the_heat_map_of_cd_holds_each_layers_and_each_shots_value(folder):
    run = read_run(folder)
    with styled():
        (drawing,) = cd_figures(run)
    axes = drawing.figure.axes[0]
    table = pl.read_parquet(folder / "decodability.parquet").filter(pl.col("task") == ALL)
    layers, shots = (table[name].unique().sort().to_list() for name in ("layer", "shots"))
    expected = {(layers.index(r["layer"]), shots.index(r["shots"])): r["cd"] for r in table.iter_rows(named=True)}
    image = np.asarray(axes.images[0].get_array())
    assert {(c, r): image[r, c] for r, c in np.ndindex(image.shape)} == pytest.approx(expected)
    assert written(axes) == pytest.approx(expected, abs=0.005)
    low, high = axes.get_ylim()
    assert low < high, "more demonstrations stand above fewer, as the labels say"
    assert len(set(image[0])) > 1 and len(set(image[:, -1])) > 1, "a constant map would prove nothing"


def test_a_matrix_of_the_synthetic_experiment_keeps_its_signs_and_places():
    names = ["a", "b"]
    effects = {("a", "a"): -0.4, ("a", "b"): 0.1, ("b", "a"): 0.3, ("b", "b"): -0.2}
    rows = [
        {"intervention": "added", "step": 10, "task": task, "vector_task": source, "effect": effect}
        for (task, source), effect in effects.items()
    ]
    summary = {
        "matrix": {"added": {"layers": {"a": 1, "b": 1}}},
        "steps": [10],
        "tasks": {name: {"readable": None} for name in names},
    }
    (drawing,) = _matrix_figures(names, summary, pl.DataFrame(rows))
    axes = drawing.figure.axes[0]
    expected = {(names.index(source), names.index(task)): value for (task, source), value in effects.items()}
    image = np.asarray(axes.images[0].get_array())
    assert {(c, r): image[r, c] for r, c in np.ndindex(image.shape)} == pytest.approx(expected)
    assert written(axes) == pytest.approx(expected)
    assert [text.get_text() for text in axes.get_xticklabels()] == names


def test_bars_are_as_high_as_the_accuracy():
    means = dict(zip(itertools.product(("unperturbed", "positive"), ("AND", "OR")), (0.1, 0.2, 0.7, 0.9), strict=True))
    bars = pl.DataFrame(
        [
            {"chosen_by": "cd", "shots": 0, "layer": 2, "task": task, "condition": condition, "mean": mean}
            | {"sd": 0.05, "ci_low": mean - 0.1, "ci_high": mean + 0.1, "n": 10}
            for (condition, task), mean in means.items()
        ]
    )
    matrix = pl.DataFrame(
        [
            {"chosen_by": by, "layer": 2, "shots": 0, "measure": measure, "source": "AND", "target": target}
            | {"mean": mean}
            for by in ("cd", "effect")
            for measure in ("accuracy", "conversion")
            for target, mean in (("AND", 0.3), ("OR", -0.6 if measure == "accuracy" else 0.6))
        ]
    )
    with styled():
        drawn = list(bar_drawings(bars, matrix))
    heights = [patch.get_height() for patch in drawn[0].figure.axes[0].patches]
    assert heights == pytest.approx(list(means.values()))
    changes, converted = (written(axes) for axes in drawn[1].figure.axes[:2])
    assert changes == pytest.approx({(0, 0): 0.3, (1, 0): -0.6})
    assert converted == pytest.approx({(0, 0): 0.3, (1, 0): 0.6})


def test_every_finding_of_an_experiment_is_printed(tmp_path, capsys):
    (tmp_path / "summary.json").write_text('{"found": [1, 2, 3]}')
    told = lambda summary: [f"finding {number}" for number in summary["found"]]  # noqa: E731
    print_findings(tmp_path, told, argparse.Namespace(json=False, quiet=False))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["finding 1", "finding 2", "finding 3", f"report: {tmp_path / 'report.html'}"]
