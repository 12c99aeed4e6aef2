"""Effect of each intervention on each task, by layer: heat maps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage

from patchboard.report.drawing import MOST_PANELS, Drawing, arranged, colour_bar, dot, panels, whole_layers
from patchboard.report.drawn import joined, tidy
from patchboard.report.heads import without_heads
from patchboard.report.run_files import Run, at_setting, setting_label, settings_of
from patchboard.report.style import effect_label, unit_of


def task_figures(run: Run) -> Iterator[Drawing]:
    """One panel per intervention and swept setting: task by layer, coloured by effect on the first metric."""
    own = without_heads(run.places_by_task, run.swept)
    own = own.filter(pl.col("control") == "", pl.col("metric") == run.metric)
    settings = settings_of(own, run.swept)
    by_intervention = [
        (name, (", ".join(filter(None, (name, setting_label(setting)))), at_setting(mine, setting, run.swept)))
        for name in own["intervention"].unique(maintain_order=True)
        for mine in (own.filter(pl.col("intervention") == name),)
        for setting in settings_of(mine, run.swept)
    ]
    parts, across = arranged(by_intervention, settings)
    largest = own.filter(pl.col("effect").is_not_nan())["effect"].abs().max()
    limit = float(largest) if isinstance(largest, float) and largest > 0 else 1.0
    tasks = own["task"].unique(maintain_order=True).to_list()
    label = effect_label(run.metric)
    caption = (
        f"Mean {label} of each task's queries; a dot marks effects whose interval leaves out"
        " zero (one in twenty does so by chance at a level of 95 %). Rows that differ show an intervention that"
        " works for some tasks only, which a pooled curve hides. Blank: not run, or no query was left."
    )
    for start in range(0, len(parts), MOST_PANELS):
        some = parts[start : start + MOST_PANELS]
        figure, axes = panels([title for title, _ in some], across, height=0.5 + 0.15 * len(tasks), share_y=True)
        # limits first: an image would set them anew for all panels that share them
        whole_layers(axes[0], np.concatenate([table["layer"] for _, table in some]), room=0.5)
        axes[0].set_ylim(len(tasks) - 0.5, -0.5)
        images = [_map(axis, table, tasks, limit) for axis, (_, table) in zip(axes, some, strict=True)]
        for axis in axes[-across:]:
            axis.set_xlabel("layer")
        colour_bar(figure, images[0], label)
        name = "tasks" + (f"-{start // MOST_PANELS + 1}" if len(parts) > MOST_PANELS else "")
        drawn = pl.concat([rows for _, rows in some]).filter(pl.col("n") > 0)
        numbers = tidy(drawn, "effect", swept=run.swept, metric=run.metric, unit=unit_of(run.metric))
        title = f"Effect on {run.metric} by task and layer"
        yield Drawing(name, title, caption, figure, joined([numbers]), explored=True)


def _map(axes: Axes, table: pl.DataFrame, tasks: list[str], limit: float) -> AxesImage:
    layers = table["layer"].unique().sort().to_list()
    values = np.full((len(tasks), len(layers)), np.nan)
    sure = []
    for row in table.iter_rows(named=True):
        place = tasks.index(row["task"]), layers.index(row["layer"])
        values[place] = row["effect"]
        if row["ci_low"] > 0 or row["ci_high"] < 0:
            sure.append(place)
    # drawn at the layers' own numbers, so that panels of different layers can share their axis
    edges = (layers[0] - 0.5, layers[-1] + 0.5, len(tasks) - 0.5, -0.5)
    grid = np.full((len(tasks), layers[-1] - layers[0] + 1), np.nan)
    grid[:, [layer - layers[0] for layer in layers]] = values
    image = axes.imshow(grid, cmap="PuOr_r", norm=Normalize(-limit, limit), aspect="auto", extent=edges)
    dot(
        axes, image, [(layers[column], row) for row, column in sure], [float(values[place]) for place in sure], size=2.3
    )
    if axes.yaxis.get_visible():
        axes.set_yticks(range(len(tasks)), tasks)
    axes.spines[:].set_visible(False)
    return image
