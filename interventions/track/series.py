"""Effects and CD as series over ``layer``: what a W&B run's history holds, computed from the run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from patchboard.measure.cd_summary import overall_cd
from patchboard.measure.decodability import ALL
from patchboard.measure.floors import floors_in
from patchboard.report.run_files import Run, at_setting, decodabilities, settings_of
from patchboard.spec.values import label

LAYER = "layer"
"""The axis of all series: the (earliest) edited block, counted from 0; for CD the block whose output is decoded."""

CD_SERIES = {"cd": "cd", "cd_twin": "twin", "cd_above_twin": "above_twin", "cd_shuffled": "shuffled"}
"""Series of CD -> its column; those of floors where the run has them."""

PATTERNS = (*(pattern for name in CD_SERIES for pattern in (name, f"{name}/*")), "probe/*", "effect/*", "control/*")
"""All series, as ``define_metric`` takes them."""


def series(run: Run) -> dict[str, dict[int, float]]:
    """Name -> layer -> value. Layers that were not measured are left out.

    ``cd`` is CD of all labels at the largest number of shots, ``cd/shots=2`` at 2; ``cd_twin``, ``cd_above_twin`` and
    ``cd_shuffled`` likewise, where the run has them, and ``probe/PROBE`` a probe's accuracy. ``effect/NAME/METRIC`` is
    the mean effect of an intervention, pooled over tasks, in the metric's unit; ``control/NAME/CONTROL/METRIC`` that
    of its control (but ``self``, which is the noise floor). Where fields are swept within the run, both are at
    the setting where the intervention does most, as in summary.json, and ``effect/NAME/METRIC/shots=0`` are at
    each setting. One of several heads stands behind all of them, as ``effect/NAME/METRIC/head=3``.
    """
    return dict([*_cd(run), *_probes(run), *_effects(run)])


def rows(run: Run) -> list[dict[str, float]]:
    """``series`` as the history has them: one row a layer, with its number under ``layer``."""
    of_layer: dict[int, dict[str, float]] = {}
    for name, values in series(run).items():
        for layer, value in values.items():
            of_layer.setdefault(layer, {LAYER: layer})[name] = value
    return [of_layer[layer] for layer in sorted(of_layer)]


def _cd(run: Run) -> Iterator[tuple[str, dict[int, float]]]:
    if run.decodability.is_empty():
        return
    known = {"cd", *floors_in(run.decodability)}
    columns = {name: column for name, column in CD_SERIES.items() if column.removeprefix("above_") in known}
    for name, column in columns.items():
        yield name, _over_layers(overall_cd(run.decodability, {}), column)
    tables = decodabilities(run)
    for setting, table in tables:
        every = table.filter(pl.col("task") == ALL)
        for shots in every["shots"].unique().sort():
            at = "/".join(filter(None, (setting.replace(" = ", "=").replace(", ", ","), f"shots={shots}")))
            for name, column in columns.items():
                yield f"{name}/{at}", _over_layers(every.filter(pl.col("shots") == shots), column)


def _probes(run: Run) -> Iterator[tuple[str, dict[int, float]]]:
    overall = run.probes.filter(pl.col("task") == ALL)
    for (probe,), rows in overall.group_by("probe", maintain_order=True):
        yield f"probe/{probe}", _over_layers(rows.filter(pl.col("shots") == pl.col("shots").max()), "accuracy")
        for shots in rows["shots"].unique().sort():
            yield f"probe/{probe}/shots={shots}", _over_layers(rows.filter(pl.col("shots") == shots), "accuracy")


def _effects(run: Run) -> Iterator[tuple[str, dict[int, float]]]:
    for name, entry in run.summary["interventions"].items():
        mine = run.curves.filter(pl.col("intervention") == name, pl.col("n") > 0, pl.col("control") != "self")
        settings = settings_of(run.curves.filter(pl.col("intervention") == name), run.swept)
        for setting in settings:
            here = at_setting(mine, setting, run.swept)
            if setting == entry.get("at", {}):
                yield from _of_setting(here, name, "")
            if len(settings) > 1:
                yield from _of_setting(here.filter(pl.col("control") == ""), name, _key(setting))


def _of_setting(cells: pl.DataFrame, name: str, setting: str) -> Iterator[tuple[str, dict[int, float]]]:
    heads = cells.group_by("layers").agg(pl.col("head").n_unique())["head"]
    several = bool((heads > 1).any())
    for (control, metric, head), part in cells.group_by("control", "metric", "head", maintain_order=True):
        kind = ("control", name, control) if control else ("effect", name)
        yield (
            "/".join(filter(None, (*kind, str(metric), setting, f"head={head}" * several))),
            _over_layers(part, "effect"),
        )


def _over_layers(table: pl.DataFrame, column: str) -> dict[int, float]:
    """Layer -> value, without values that are none. A layer that is edited in several cells has its first."""
    once = table.filter(pl.col(column).is_not_nan()).unique("layer", keep="first", maintain_order=True).sort("layer")
    return dict(zip(once["layer"], once[column], strict=True))


def _key(setting: Mapping[str, Any]) -> str:
    """``shots=0,strength=2``: a swept setting in a series' name, fields by their last name where that will do."""
    short = [field.rsplit(".", 1)[-1] for field in setting]
    names = [name if short.count(name) == 1 else field for name, field in zip(short, setting, strict=True)]
    return ",".join(f"{name}={label(value)}" for name, value in zip(names, setting.values(), strict=True))
