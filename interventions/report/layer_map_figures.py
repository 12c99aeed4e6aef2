"""Effect of editing one head, or one position, at a time: heat maps over layers, controls beside the intervention."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import polars as pl

from patchboard.report.drawing import Drawing, colour_bar, columns_for, panels
from patchboard.report.heads import of_heads, without_heads
from patchboard.report.layer_map import MARGIN, Grid, Panel, layer_map, map_numbers
from patchboard.report.run_files import Run, at_setting, setting_label, settings_of
from patchboard.report.style import WIDTH, effect_label, in_order
from patchboard.report.swept_layers import along_swept_layers

LARGEST = 5
"""Squares of a panel that are outlined; of few ones a quarter."""

_NARROWEST = 0.09
"""Inches: columns below this width get a row of fewer, wider panels."""
_PAGE = 10.0
"""Inches: the height of a figure beyond which it is split."""


def head_figures(run: Run, metric: str) -> Iterator[Drawing]:
    """One figure per intervention on several heads of a layer, coloured by the mean effect on ``metric``: for each
    swept setting the intervention's own panel and one per control; none without such interventions."""
    table = of_heads(run.places.filter(pl.col("metric") == metric), run.swept)
    for name in table["intervention"].unique(maintain_order=True):
        yield from _of_intervention(run, metric, table.filter(pl.col("intervention") == name), "head", run.swept)


def position_figures(run: Run, metric: str) -> Iterator[Drawing]:
    """As `head_figures`, for interventions that sweep their position over several layers: layer by position."""
    run = along_swept_layers(run)
    table = without_heads(run.places.filter(pl.col("metric") == metric), run.swept)
    for name in table["intervention"].unique(maintain_order=True):
        mine, axis = table.filter(pl.col("intervention") == name), f"interventions.{name}.position"
        if axis in run.swept and mine["layers"].n_unique() > 1:
            yield from _of_intervention(run, metric, mine, "position", [path for path in run.swept if path != axis])


def _of_intervention(
    run: Run, metric: str, mine: pl.DataFrame, field: Literal["head", "position"], swept: list[str]
) -> Iterator[Drawing]:
    settings = settings_of(mine, swept)
    panels = [some for each in settings if (some := _panels(each, at_setting(mine, each, swept), field))]
    if panels:
        yield from _figures(run, metric, mine["intervention"][0], panels, field)


def _panels(setting: dict[str, Any], here: pl.DataFrame, field: str) -> list[Panel]:
    """Of the controls all but ``self``, which changes nothing; the page states the noise floor."""
    measured = in_order(set(here.filter(pl.col("n") > 0, pl.col("control") != "self")["control"]))
    tables = [here.filter(pl.col("control") == control) for control in measured]
    titles = [
        ", ".join(filter(None, (control or here["intervention"][0], setting_label(setting)))) for control in measured
    ]
    return [Panel(title, rows, _largest(tables[0], field)) for title, rows in zip(titles, tables, strict=True)]


def _largest(rows: pl.DataFrame, field: str) -> list[tuple[str, Any]]:
    """The largest effects of those whose interval leaves out zero."""
    sure = rows.filter((pl.col("ci_low") > 0) | (pl.col("ci_high") < 0), pl.col("n") > 0)
    few = min(LARGEST, max(1, len(rows) // 4))
    chosen = sure.sort(pl.col("effect").abs(), descending=True, maintain_order=True).head(few)
    return list(zip(chosen["layers"], chosen[field], strict=True))


def _figures(
    run: Run, metric: str, name: str, settings: Sequence[list[Panel]], field: Literal["head", "position"]
) -> Iterator[Drawing]:
    """Settings are kept whole: a control stands in the figure of what it controls."""
    grid = _grid(settings, field)
    height = 0.55 + grid.square[1] * len(grid.places)
    at_once = max(1, int(_PAGE / height) * grid.across // max(map(len, settings)))
    label = "conversion (fraction)" if metric == "conversion" else effect_label(metric)
    label = textwrap.fill(label, 36)  # the bar is as high
    title = "Conversion to the source's answer" if metric == "conversion" else f"Effect on {metric}"
    for start in range(0, len(settings), at_once):
        some = [panel for setting in settings[start : start + at_once] for panel in setting]
        figure, axes = panels([part.title for part in some], grid.across, height, share_y=True)
        images = [layer_map(axis, part, grid) for axis, part in zip(axes, some, strict=True)]
        for axis in axes[-grid.across :]:
            axis.set_xlabel("layer")
        for axis in axes[:: grid.across]:
            axis.set_ylabel(field)
        colour_bar(figure, images[0], label)
        number = f"-{start // at_once + 1}" if len(settings) > at_once else ""
        caption = _caption(run, metric, some, grid)
        named = f"{field}s-{metric}-{name}{number}", f"{title} by layer and {field}, {name}"
        numbers = map_numbers(some, metric, "fraction" if metric == "conversion" else None)
        yield Drawing(*named, caption, figure, numbers, explored=True)


def _grid(settings: Sequence[list[Panel]], field: Literal["head", "position"]) -> Grid:
    rows = pl.concat([part.rows.select("layer", "layers", field, "effect") for some in settings for part in some])
    columns = rows.select("layer", "layers").unique().sort("layer", "layers")["layers"].to_list()
    of_setting = max(map(len, settings))
    wanted = of_setting if of_setting > 1 else min(len(settings), columns_for(settings))
    most = max(1, min(wanted, int((WIDTH - MARGIN) / (_NARROWEST * len(columns)))))
    # a setting begins on a row of its own
    across = max(n for n in range(1, most + 1) if wanted % n == 0)
    largest = rows.filter(pl.col("effect").is_not_nan())["effect"].abs().max()
    limit = float(largest) if isinstance(largest, float) and largest > 0 else 1.0
    # positions stand as the spec lists them, the first on top
    places = rows[field].unique(maintain_order=True).to_list()
    return Grid(columns, sorted(places) if field == "head" else places[::-1], across, limit, field)


def _caption(run: Run, metric: str, parts: Sequence[Panel], grid: Grid) -> str:
    together = ", in several layers together" if any("," in layers for layers in grid.columns) else ""
    what = (
        f"A vector or state of another task or source prompt is used at one {grid.field} at a time{together}, and the"
        " answer is scored as one to that: how much more often it is right than without the edit"
        if metric == "conversion"
        else f"Mean {effect_label(metric)} of editing one {grid.field} at a time{together}"
    )
    if run.spec["interventions"].get(parts[0].rows["intervention"][0], {}).get("edits") and grid.field == "position":
        what += " (of the intervention's edits the one that is swept; the others are the same in all squares)"
    squares, level = max(len(part.rows) for part in parts), run.summary["level"]
    chance = f", here up to {squares * (1 - level):.0f} of {squares:,}" if squares * (1 - level) >= 1 else ""
    said = [
        f"{what}, pooled over tasks: a square is one {grid.field} of a layer. A dot marks effects whose interval leaves"
        f" out zero; of squares without any effect {100 * (1 - level):.2g} % get one by chance{chance}."
    ]
    outlined = max(len(part.outlined) for part in parts)
    if outlined:
        largest = f"the {outlined} largest effects" if outlined > 1 else "the largest effect"
        said.append(f"Outlined: {largest} with a dot, of the first panel of each setting.")
    controls = [part.rows["control"][0] != "" for part in parts]
    if any(controls) and not all(controls):
        said.append(
            f"Controls have the same colours and outlines: a {grid.field} that moves the metric as much under a control"
            " does not carry the concept by itself."
        )
    if any(len(part.rows) < len(grid.columns) * len(grid.places) or part.rows["n"].min() == 0 for part in parts):
        said.append("Grey: not run, or no query was left.")
    return " ".join(said)
