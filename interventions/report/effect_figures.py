"""Effect over layers with CD beside it, and conversion over layers: small multiples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from matplotlib.transforms import Affine2D, blended_transform_factory

from patchboard.measure.decodability import ALL
from patchboard.measure.floors import floors_in
from patchboard.report.drawing import MOST_PANELS, Drawing, arranged, panels, whole_layers
from patchboard.report.drawn import joined, tidy
from patchboard.report.heads import without_heads
from patchboard.report.margins import right_axis
from patchboard.report.marks import FLOOR_LOOKS, floor_key, level_line
from patchboard.report.numbers import listed
from patchboard.report.run_files import Run, at_setting, setting_label, settings_of
from patchboard.report.style import CD_COLOUR, effect_label, in_order, line_of, unit_of
from patchboard.report.swept_layers import along_swept_layers

_TITLES = {"onwards": " (from layer on)", "upto": " (up to layer)"}

_CD_TOP = 1.03
"""CD at the upper end of a panel."""


@dataclass(frozen=True)
class Panel:
    """An intervention and its controls at one setting."""

    title: str
    intervention: str
    curves: pl.DataFrame
    cd: pl.DataFrame
    """CD there; no rows where none is drawn."""


def effect_figures(run: Run, metric: str) -> Iterator[Drawing]:
    """One panel per intervention and swept setting: effect on ``metric`` over layers, CD on the right."""
    run = along_swept_layers(run)
    curves = without_heads(run.places, run.swept)
    parts = _panels(run, curves.filter(pl.col("metric") == metric))
    parts = [part for part in parts if part.curves["n"].max()] or parts  # a metric may have no meaning for some
    caption = (
        f"Mean {effect_label(metric)} of editing one layer at a time{_several(run)}, pooled over tasks; bands are"
        " bootstrap intervals over queries. Read the intervention (thick) against its controls: an effect that a"
        " control shares is not the concept's."
    )
    if any(len(part.cd) for part in parts):
        caption += (
            " The dashed grey line is CD on the right-hand axis, the dotted one its chance level. Where CD is high"
            " while the band covers zero, the task is decodable there but not causal."
        )
    caption += " Thin on that axis: what CD is held against." if floors_in(run.decodability) else ""
    caption += "" if run.screen.is_empty() else " A line stops where the screen left a layer out."
    look = {"metric": metric, "unit": unit_of(metric)}
    yield from _figures(run, f"effect-{metric}", f"Effect on {metric} by layer", caption, parts, look)


def conversion_figures(run: Run) -> Iterator[Drawing]:
    """The share of answers that become those of another task, over layers; none if never measured."""
    curves = without_heads(run.places, run.swept)
    measured = curves.filter(pl.col("metric") == "conversion", pl.col("n") > 0)
    parts = [replace(part, cd=part.cd.clear()) for part in _panels(run, measured)]
    caption = (
        "A vector or state of another task or source prompt is used, and the answer is scored as one to that: how much"
        " more often it is right than without the edit. Queries on which both answers agree are left out. High values"
        " say that it carries that task or prompt, not only that the prompt's own answer is lost."
    )
    look = {"metric": "conversion", "unit": "fraction"}
    yield from _figures(run, "conversion", "Conversion to the source's answer by layer", caption, parts, look)


def _figures(
    run: Run, name: str, title: str, caption: str, parts: list[Panel], look: Mapping[str, Any]
) -> Iterator[Drawing]:
    """look: the metric and its unit."""
    parts, across = arranged([(part.intervention, part) for part in parts], settings_of(run.own, run.swept))
    label = "conversion (fraction)" if look["metric"] == "conversion" else effect_label(str(look["metric"]))
    for number, start in enumerate(range(0, len(parts), MOST_PANELS), start=1):
        some = parts[start : start + MOST_PANELS]
        figure, axes = panels([part.title for part in some], across, height=1.45 if across > 1 else 2.0, share_y=True)
        for place, (axis, part) in enumerate(zip(axes, some, strict=True), start=1):
            _effect_panel(axis, part, name_cd=place % min(across, len(some)) == 0)
        whole_layers(axes[0], np.concatenate([each["layer"] for part in some for each in (part.curves, part.cd)]))
        for axis in axes[-across:]:
            axis.set_xlabel("layer")
        figure.supylabel(label)
        _legend(figure, some)
        numbered = name + (f"-{number}" if len(parts) > MOST_PANELS else "")
        yield Drawing(numbered, title, caption, figure, _numbers(some, run.swept, look), explored=True)


def _numbers(parts: Sequence[Panel], swept: list[str], look: Mapping[str, Any]) -> pl.DataFrame:
    """What panels show: the curves, and CD with what it is held against."""
    drawn = pl.concat([part.curves for part in parts]).filter(pl.col("n") > 0)
    tables = [tidy(drawn, "effect", swept=swept, **look)]
    for cd in {id(part.cd): part.cd for part in parts if len(part.cd)}.values():  # most panels show the same
        said = {"unit": "fraction", "swept": [field for field in swept if field in cd.columns]}
        tables.append(tidy(cd, "cd", metric="CD", **said))
        tables.append(tidy(cd, "chance", bounds="", metric="chance of CD", **said))
        for floor in floors_in(cd):
            tables.append(tidy(cd, floor, bounds="", metric=f"CD, {FLOOR_LOOKS[floor][0]}", **said))
    return joined(tables)


def _several(run: Run) -> str:
    """For captions: what is edited beside the layer, where it is more."""
    words = {"onwards": "all later ones with it", "upto": "all earlier ones with it"}
    interventions_of = {
        axis: [name for name in run.summary["interventions"] if run.axis(name) == axis] for axis in words
    }
    parts = [f"{listed(names)}: {words[axis]}" for axis, names in interventions_of.items() if names]
    return f" ({'; '.join(parts)})" if parts else ""


def _panels(run: Run, table: pl.DataFrame) -> list[Panel]:
    panels = []
    cds: dict[tuple[Any, ...], pl.DataFrame] = {}
    shared = [field for field in run.swept if field in run.decodability.columns]
    for name in table["intervention"].unique(maintain_order=True):
        mine = table.filter(pl.col("intervention") == name)
        for setting in settings_of(mine, run.swept):
            at = setting_label(setting)
            title = ", ".join(filter(None, (name + _TITLES.get(run.axis(name) or "", ""), at)))
            key = tuple(setting.get(field) for field in shared)
            cds[key] = cds[key] if key in cds else _cd(run, setting, shared)
            panels.append(Panel(title, name, at_setting(mine, setting, run.swept), cds[key]))
    return panels


def _cd(run: Run, setting: dict, shared: list[str]) -> pl.DataFrame:
    """CD of all labels by layer at the largest number of shots. shared: the swept fields that matter to CD."""
    rows = at_setting(run.decodability, setting, shared).filter(pl.col("task") == ALL)
    return rows.filter(pl.col("shots") == pl.col("shots").max()).sort("layer")


def _effect_panel(axes: Axes, part: Panel, name_cd: bool) -> None:
    level_line(axes, 0, color="black", linewidth=0.8)
    if len(part.cd):
        _draw_cd(axes, part.cd, name_cd)  # below the effect, which the figure is about
    curves = part.curves
    blank = curves.filter(pl.col("n") + pl.col("excluded") == 0)  # layers that a screen left out: a line stops there
    measured = curves.filter(pl.col("n") > 0).partition_by("control", as_dict=True)
    for control in reversed(in_order(name for (name,) in measured)):  # the intervention itself on top
        style = line_of(control)
        curve = measured[control,]
        if len(blank):
            curve = pl.concat([curve, blank.join(curve, on="layer", how="anti")])
        curve = curve.sort("layer")
        x, y, low, high = (curve[name].to_numpy() for name in ("layer", "effect", "ci_low", "ci_high"))
        # markers only while they can be told apart, or between gaps; a single point is but its marker and its bar
        marker = style.marker if len(x) <= 20 or len(blank) else ""
        axes.plot(x, y, style.dashes, color=style.colour, marker=marker, markersize=3, linewidth=style.width)
        if len(x) == 1 or len(blank):
            axes.vlines(x, low, high, color=style.colour, linewidth=style.width if len(x) == 1 else 0.8)
        if len(x) > 1 and not len(blank):
            outline = np.column_stack([np.concatenate([x, x[::-1]]), np.concatenate([low, high[::-1]])])
            axes.add_patch(Polygon(outline, facecolor=style.colour, alpha=0.18, linewidth=0))
        elif len(x) > 1:
            axes.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0)


def _draw_cd(axes: Axes, cd: pl.DataFrame, named: bool) -> None:
    """CD and what it is held against, from 0 to 1 over the height of the panel whatever the effects are; its axis on
    the right where it is named. A second set of axes would cost as much as the panel."""
    upwards = blended_transform_factory(axes.transData, Affine2D().scale(1, 1 / _CD_TOP) + axes.transAxes)
    below: dict[str, Any] = {"transform": upwards, "zorder": 1.5}
    layers = cd["layer"]
    axes.plot(layers, cd["cd"], "--", color=CD_COLOUR, linewidth=1.3, **below)
    axes.plot(layers, cd["chance"], ":", color=CD_COLOUR, linewidth=1, **below)
    for floor in floors_in(cd):
        axes.plot(layers, cd[floor], **FLOOR_LOOKS[floor][1], **below)
    if named:
        right_axis(axes, {"0": 0, ".5": 0.5 / _CD_TOP, "1": 1 / _CD_TOP}, "CD", CD_COLOUR)


def _legend(figure: Figure, parts: list[Panel]) -> None:
    controls = in_order(set(pl.concat([part.curves.select("control") for part in parts])["control"]))
    handles = [
        Line2D([], [], color=style.colour, linestyle=style.dashes, marker=style.marker, markersize=4,
               linewidth=style.width, label=control or "the intervention")
        for control in controls for style in (line_of(control),)
    ]  # fmt: skip
    decoded = [part.cd for part in parts if len(part.cd)]
    if decoded:
        shots = max(cd["shots"][0] for cd in decoded)
        handles += [
            Line2D([], [], color=CD_COLOUR, linestyle="--", label=f"CD, {shots} shots (right)"),
            Line2D([], [], color=CD_COLOUR, linestyle=":", label="CD's chance level"),
            *floor_key(floors_in(pl.concat(decoded, how="diagonal_relaxed")), "CD, "),
        ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))
