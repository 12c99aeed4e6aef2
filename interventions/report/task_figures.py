"""Effect of each intervention on each task, by layer: heat maps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage

from patchboard.report.drawing import MOST_PANELS, Drawing, columns_for, dot, panels, whole_layers
from patchboard.report.heads import without_heads
from patchboard.report.run_files import Run, at_setting, setting_label, settings_of
from patchboard.report.style import effect_label


def task_figures(run: Run) -> Iterator[Drawing]:
    """One panel per intervention and swept setting: task by layer, coloured by effect on the first metric."""
    own = without_heads(run.places_by_task, run.swept)
    own = own.filter(pl.col("control") == "", pl.col("metric") == run.metric)
    parts = [
        (", ".join(filter(None, (name, setting_label(setting)))), at_setting(mine, setting, run.swept))
        for name in own["intervention"].unique(maintain_order=True)
        for mine in (own.filter(pl.col("intervention") == name),)
        for setting in settings_of(mine, run.swept)
    ]
    largest = own.filter(pl.col("effect").is_not_nan())["effect"].abs().max()
    limit = float(largest) if isinstance(largest, float) and largest > 0 else 1.0
    across = columns_for(settings_of(own, run.swept))
    tasks = own["task"].unique(maintain_order=True).to_list()
    caption = (
        f"Mean {effect_label(run.metric)} of each task's queries; a dot marks effects whose interval leaves out"
        " zero (one in twenty does so by chance at a level of 95 %). Rows that differ show an intervention that"
        " works for some tasks only, which a pooled curve hides. Blank: not run, or no query was left."
    )
    for start in range(0, len(parts), MOST_PANELS):
        some = parts[start : start + MOST_PANELS]
        figure, axes = panels([title for title, _ in some], across, height=0.75 + 0.19 * len(tasks), share_y=True)
        images = [_map(axis, table, tasks, limit) for axis, (_, table) in zip(axes, some, strict=True)]
        whole_layers(axes[0], np.concatenate([table["layer"] for _, table in some]), room=0.5)
        for axis in axes[-across:]:
            axis.set_xlabel("layer")
        figure.colorbar(images[0], ax=axes, pad=0.01, shrink=min(1.0, 2.5 / len(axes)), label=effect_label(run.metric))
        name = "tasks" + (f"-{start // MOST_PANELS + 1}" if len(parts) > MOST_PANELS else "")
        yield Drawing(name, f"Effect on {run.metric} by task and layer", caption, figure)


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
    axes.set_yticks(range(len(tasks)), tasks)
    axes.spines[:].set_visible(False)
    return image
