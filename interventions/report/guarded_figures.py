"""What fresh probes find after edits that erase: heat maps of edited by probed layer, and lines at the edited layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from patchboard.measure.decodability import ALL
from patchboard.report.drawing import MOST_PANELS, Drawing, colour_bar, columns_for, panels, whole_layers
from patchboard.report.drawn import joined, tidy
from patchboard.report.marks import Look, every_tick, grid_of, heat_map, level_line, line_with_band
from patchboard.report.numbers import fraction
from patchboard.report.run_files import Run, at_setting, setting_label, settings_of
from patchboard.report.style import CD_COLOUR, CYCLE
from patchboard.store.schema import GUARDED

_MOST_WRITTEN = 12
"""Layers up to which two digits fit a square of the heat map."""

_AFTER: Look = {"color": CYCLE[0], "marker": "o"}
_RANDOM: Look = {"color": CYCLE[5], "marker": "D", "linestyle": "-."}
_BEFORE: Look = {"color": CYCLE[6], "linestyle": "--", "linewidth": 1}
_SAMPLE: Look = {"color": CYCLE[1], "marker": "^", "linestyle": "-."}
_SAID = {"metric": "accuracy of a fresh probe", "unit": "fraction"}
_OWN = "held-out prompts"
_LINES = {
    _OWN: _AFTER, "held-out, random subspace": _RANDOM, "held-out, unedited": _BEFORE,
    "prompts of the fit, in-sample": _SAMPLE,
}  # fmt: skip


def guarded_figures(run: Run) -> Iterator[Drawing]:
    """Two figures; none where the spec does not ask for guardedness."""
    parts = _parts(run.guardedness)
    for start in range(0, len(parts), MOST_PANELS):
        some = parts[start : start + MOST_PANELS]
        ending = f"-{start // MOST_PANELS + 1}" if len(parts) > MOST_PANELS else ""
        yield _maps(some, ending)
        yield _lines(some, ending)


def _parts(table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """(title, rows of all labels) of each intervention, setting and probe."""
    swept = [column for column in table.columns if column not in GUARDED]
    overall = table.filter(pl.col("task") == ALL)
    parts = []
    for (name,), rows in overall.group_by("intervention", maintain_order=True):
        for setting in settings_of(rows, swept):
            for (probe,), own in at_setting(rows, setting, swept).group_by("probe", maintain_order=True):
                title = ", ".join(filter(None, (str(name), setting_label(setting), str(probe))))
                parts.append((title, own))
    return parts


def _held_out(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("control") == "", pl.col("half") == "held_out")


def _maps(parts: list[tuple[str, pl.DataFrame]], ending: str) -> Drawing:
    across = columns_for(parts)
    figure, axes = panels([title for title, _ in parts], across, height=2.4, share_x=False, share_y=False)
    for axis, (_, rows) in zip(axes, parts, strict=True):
        own = _held_out(rows)
        edited, probed = (own[name].unique().sort().to_list() for name in ("layer", "probed_layer"))
        grid = grid_of(own, edited, probed, ("layer", "probed_layer", "accuracy"))
        written = (lambda value: fraction(value).removeprefix("0")) if len(probed) <= _MOST_WRITTEN else None
        image = heat_map(axis, grid, (0, 1), text_of=written)
        every_tick(axis.xaxis, probed, 15)
        every_tick(axis.yaxis, edited, 15)
        axis.set_ylabel("edited layer")
    for axis in axes[-across:]:
        axis.set_xlabel("layer that the probe reads")
    colour_bar(figure, image, "accuracy of a fresh probe", parts[0][1]["chance"][0])
    caption = (
        "Probes that are fitted anew on states of the edited run (held-out prompts, tested on other queries), by the"
        " layer that is edited and the one whose output they read. Leftmost of a row is the edited layer itself; to the"
        " right, what later blocks bring back. White line on the bar: chance."
    )
    numbers = joined([tidy(_held_out(rows), "accuracy", panel=title, **_SAID) for title, rows in parts])
    return Drawing(f"guardedness{ending}", "What fresh probes find after the edit", caption, figure, numbers)


def _lines(parts: list[tuple[str, pl.DataFrame]], ending: str) -> Drawing:
    across = columns_for(parts)
    figure, axes = panels([title for title, _ in parts], across, height=2.0, share_y=True)
    numbers = []
    for axis, (title, rows) in zip(axes, parts, strict=True):
        lines = _at_the_edited_layer(rows)
        _panel(axis, lines, rows["chance"][0])
        numbers += [tidy(line, "accuracy", panel=title, series=name, **_SAID) for name, line in lines.items()]
        numbers.append(tidy(lines[_OWN], "chance", "", panel=title, series="chance", **_SAID))
    for axis in axes[-across:]:
        axis.set_xlabel("edited layer, at which the probe reads")
    figure.supylabel("accuracy of a fresh probe")
    handles = [Line2D([], [], label=name, markersize=4, **look) for name, look in _LINES.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    caption = (
        "At the edited layer. Bands are bootstrap intervals over queries, dotted is chance. In-sample: a linear probe"
        " fitted and tested on the prompts that the subspace was fitted on, which LEACE brings to the best constant;"
        " held-out prompts are tested by probes of other queries. After a random subspace of the same rank (mean of the"
        " draws) and without an edit the same is asked."
    )
    return Drawing(f"guardedness-edited{ending}", "Fresh probes at the edited layer", caption, figure, joined(numbers))


def _at_the_edited_layer(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Name of a line -> its rows, by layer; lines that have no row left out, but for the first."""
    rows = rows.filter(pl.col("probed_layer") == pl.col("layer")).sort("layer")
    own = _held_out(rows)
    random = rows.filter(pl.col("control") != "", pl.col("half") == "held_out")
    lines = {
        _OWN: own,
        "held-out, random subspace": random.group_by("layer").agg(pl.col("accuracy").mean()).sort("layer"),
        "held-out, unedited": own.select("layer", accuracy="unablated"),
        "prompts of the fit, in-sample": rows.filter(pl.col("control") == "", pl.col("tested") == "in_sample"),
    }
    return {name: line for name, line in lines.items() if len(line) or name == _OWN}


def _panel(axis: Axes, lines: Mapping[str, pl.DataFrame], chance: float) -> None:
    level_line(axis, chance, color=CD_COLOUR, linestyle=":", linewidth=1)
    for name, line in reversed(list(lines.items())):  # that of the edit itself on top
        if name == _OWN:
            line_with_band(axis, line, ("layer", "accuracy"), markersize=3, **_LINES[name])
        else:
            axis.plot(line["layer"], line["accuracy"], markersize=3, **_LINES[name])
    axis.set_ylim(-0.02, 1.02)
    whole_layers(axis, lines[_OWN]["layer"].to_numpy())
