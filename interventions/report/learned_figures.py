"""How vectors were learned: their loss on held-out pairs over the steps, one panel an intervention."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from patchboard.report.drawing import MOST_PANELS, Drawing, colour_bar, columns_for, panels
from patchboard.report.drawn import joined, tidy
from patchboard.report.run_files import Run

_CAPTION = (
    "Each line is a vector, of one task and place, in the colour of its layer: its loss, -log p(the answer that it is"
    " to bring), on the pairs of the fit half that no step sees. Step 0 is the vector as it was drawn, the dot the one"
    " that is kept. A line ends where it gained nothing any more. Effects are measured on the other half."
)


def learned_figures(run: Run) -> Iterator[Drawing]:
    """Of all vectors that are learned; none where none is."""
    if run.learned.is_empty():
        return
    keys = ["model", "intervention", "setting"]
    several = run.learned["model"].n_unique() > 1
    parts = [
        (", ".join(filter(None, (name, setting, model if several else ""))), rows)
        for (model, name, setting), rows in run.learned.group_by(keys, maintain_order=True)
    ]
    layers = run.learned["layer"].to_list()
    colours = ScalarMappable(Normalize(min(layers), max(max(layers), min(layers) + 1)), colormaps["viridis"])
    across = columns_for(parts)
    for start in range(0, len(parts), MOST_PANELS):
        some = parts[start : start + MOST_PANELS]
        figure, axes = panels([title for title, _ in some], across, height=2.2, share_y=False, share_x=False)
        for axis, (_, rows) in zip(axes, some, strict=True):
            _panel(axis, rows, colours)
        for axis in axes[-across:]:
            axis.set_xlabel("steps")
        figure.supylabel("held-out loss (nats)")
        colour_bar(figure, colours, "layer").yaxis.set_major_locator(MaxNLocator(integer=True))
        name = "learned" + (f"-{start // MOST_PANELS + 1}" if len(parts) > MOST_PANELS else "")
        said = {"metric": "held-out loss", "unit": "nats", "keep": ["vector", "chosen"]}
        numbers = joined([tidy(rows, "held_out_loss", **said) for _, rows in some])
        yield Drawing(name, "Learning, on pairs held out of it", _CAPTION, figure, numbers)


def _panel(axes: Axes, rows: pl.DataFrame, colours: ScalarMappable) -> None:
    for _, own in rows.group_by("vector", maintain_order=True):
        colour = colours.to_rgba(own["layer"][0])
        axes.plot(own["step"].to_numpy(), own["held_out_loss"].to_numpy(), color=colour, linewidth=1.0)
        kept = own.filter("chosen")
        axes.plot(kept["step"].to_numpy(), kept["held_out_loss"].to_numpy(), "o", color=colour, markersize=3.5)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
