"""What the report, the findings and W&B say of CD beside its floors, on a planted run."""

from __future__ import annotations

import polars as pl
import pytest

from patchboard.measure.decodability import ALL
from patchboard.report.decodability_figures import cd_figures
from patchboard.report.findings import caveats, findings
from patchboard.report.run_files import Run, decodabilities, read_run
from patchboard.report.tables import summary_rows
from patchboard.track.series import series
from patchboard.track.values import summary_values
from tests.unit import synthetic_run

HIGHEST = 5
"""The layer at which CD is planted to lie highest above the twin's: that of the highest CD is another."""


def with_floors(cd: pl.DataFrame) -> pl.DataFrame:
    """The twin's CD is .9 of CD (nothing is far above it), but at HIGHEST, where it is a tenth."""
    twin = pl.col("cd") * pl.when(pl.col("layer") == HIGHEST).then(0.1).otherwise(0.9)
    above = pl.col("cd") - pl.col("twin")
    return (
        cd.with_columns(twin=twin, twin_low=twin - 0.02, twin_high=twin + 0.02)
        .with_columns(above_twin=above, above_twin_low=above - 0.03, above_twin_high=above + 0.03)
        .with_columns(shuffled=pl.lit(0.14), shuffled_low=pl.lit(0.12), shuffled_high=pl.lit(0.16))
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("floors") / "run"
    cd = with_floors(synthetic_run.decodability(points=12))
    return read_run(synthetic_run.write_run_folder(folder, synthetic_run.outcomes(queries=20), cd))


def overall(run: Run, shots: int) -> pl.DataFrame:
    return run.decodability.filter(pl.col("task") == ALL, pl.col("shots") == shots).sort("layer")


def test_findings_speak_of_cd_above_the_twin(run):
    cd = overall(run, 4)
    row = cd.row(HIGHEST, named=True)
    assert cd["cd"].arg_max() != HIGHEST
    told = " ".join(findings(run.summary))
    assert (
        f"CD is highest above that of an untrained twin at layer {HIGHEST} (4 shots): by {row['above_twin']:+.2f}"
        f" [{row['above_twin_low']:+.2f}, {row['above_twin_high']:+.2f}], {row['cd']:.2f}"
    ) in told
    assert "told apart from what the prompts' looks give" not in told
    assert f"shuffled over the prompts CD at layer {cd['cd'].arg_max()} is 0.14 [0.12, 0.16]" in told
    assert sum("The untrained twin is one draw" in each for each in caveats(run)) == 1


def test_high_cd_that_the_twin_has_too_is_not_called_decodable(run):
    (erased,) = run.summary["interventions"]["erased"]["points"][1:]
    assert set(erased["decodable_but_not_causal"]) <= {HIGHEST}
    plain = run.decodability.select(pl.exclude("^(twin|above|shuffled).*$"))
    assert (plain.filter(pl.col("task") == ALL, pl.col("shots") == 4)["ci_low"] > 4 / 7).sum() > 1, (
        "else it shows nothing"
    )


def test_the_table_of_a_run_has_the_twins_cd_beside(run):
    cells = [cell for row in summary_rows(run.summary) for cell in row]
    point = run.summary["interventions"]["positive"]["points"][0]
    assert f"{point['cd_at_best_layer']:.2f} (twin {point['above_twin']['twin']:.2f})" in cells


def test_the_figure_draws_each_floor_as_the_table_has_it(run):
    assert len(decodabilities(run)) == 1, "floors are no swept fields"
    heat_map, floors = cd_figures(run)
    assert (heat_map.name, floors.name) == ("cd", "cd-floors")
    panels = [axes for axes in floors.figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["0 shots", "1 shot", "2 shots", "4 shots"]
    for axes, shots in zip(panels, synthetic_run.CD_SHOTS, strict=True):
        drawn = [list(map(float, line.get_ydata())) for line in axes.lines]
        cd = overall(run, shots)
        assert drawn[1:] == [cd[name].to_list() for name in ("twin", "shuffled", "cd")]


def test_wandb_is_told_of_floors(run):
    found, cd = series(run), overall(run, 4)
    for name, column in (("cd_twin", "twin"), ("cd_above_twin", "above_twin"), ("cd_shuffled", "shuffled")):
        assert found[name] == found[f"{name}/shots=4"] == dict(zip(cd["layer"], cd[column], strict=True))
    values = summary_values(run)
    assert values["cd_above_twin_max_layer"] == HIGHEST and values["cd_shuffled"] == 0.14
    assert values["cd_above_twin_max"] == cd["above_twin"][HIGHEST]
