"""Effect over layers with CD beside it, and conversion over layers: small multiples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from patchboard.measure.decodability import ALL
from patchboard.measure.floors import floors_in
from patchboard.report.drawing import MOST_PANELS, Drawing, columns_for, panels, whole_layers
from patchboard.report.heads import without_heads
from patchboard.report.marks import floor_key, floor_lines
from patchboard.report.numbers import listed
from patchboard.report.run_files import Run, at_setting, setting_label, settings_of
from patchboard.report.style import CD_COLOUR, effect_label, in_order, line_of
from patchboard.report.swept_layers import along_swept_layers

_TITLES = {"onwards": " (from layer on)", "upto": " (up to layer)"}

Panel = tuple[str, pl.DataFrame, pl.DataFrame]
"""Title, the curves of an intervention and its controls at one setting, and CD there."""


def effect_figures(run: Run, metric: str) -> Iterator[Drawing]:
    """One panel per intervention and swept setting: effect on ``metric`` over layers, CD on the right."""
    run = along_swept_layers(run)
    curves = without_heads(run.places, run.swept)
    parts = _panels(run, curves.filter(pl.col("metric") == metric))
    parts = [part for part in parts if part[1]["n"].max()] or parts  # a metric may have no meaning for some
    across = columns_for(settings_of(curves.filter(pl.col("control") == ""), run.swept))
    caption = (
        f"Mean {effect_label(metric)} of editing one layer at a time{_several(run)}, pooled over tasks; bands are"
        " bootstrap intervals over queries. Read the intervention (thick) against its controls: an effect that a"
        " control shares is not the concept's. The dashed grey line is CD on the right-hand axis, the dotted one its"
        " chance level. Where CD is high while the band covers zero, the task is decodable there but not causal."
    ) + (" Thin on that axis: what CD is held against." if floors_in(run.decodability) else "")
    caption += "" if run.screen.is_empty() else " A line stops where the screen left a layer out."
    for number, some in enumerate(_split(parts), start=1):
        figure, axes = panels([title for title, *_ in some], across, height=1.85, share_y=True)
        for place, (axis, part) in enumerate(zip(axes, some, strict=True), start=1):
            _effect_panel(axis, part[1], part[2], name_cd=place % across == 0 or place == len(some))
        whole_layers(axes[0], np.concatenate([each["layer"] for _, *both in some for each in both]))
        _label(figure, axes, across, effect_label(metric))
        _legend(figure, some, with_cd=any(len(cd) for _, _, cd in some))
        name = f"effect-{metric}" + (f"-{number}" if len(parts) > MOST_PANELS else "")
        yield Drawing(name, f"Effect on {metric} by layer", caption, figure)


def conversion_figures(run: Run) -> Iterator[Drawing]:
    """The share of answers that become those of another task, over layers; none if never measured."""
    curves = without_heads(run.places, run.swept)
    measured = curves.filter(pl.col("metric") == "conversion", pl.col("n") > 0)
    parts = _panels(run, measured)
    across = columns_for(settings_of(measured, run.swept))
    caption = (
        "A vector or state of another task or source prompt is used, and the answer is scored as one to that: how much"
        " more often it is right than without the edit. Queries on which both answers agree are left out. High values"
        " say that it carries that task or prompt, not only that the prompt's own answer is lost."
    )
    for number, some in enumerate(_split(parts), start=1):
        figure, axes = panels([title for title, *_ in some], across, height=1.85, share_y=True)
        for axis, part in zip(axes, some, strict=True):
            _effect_panel(axis, part[1], part[2].clear(), name_cd=False)
        whole_layers(axes[0], np.concatenate([curves["layer"] for _, curves, _ in some]))
        _label(figure, axes, across, "conversion (fraction)")
        _legend(figure, some, with_cd=False)
        name = "conversion" + (f"-{number}" if len(parts) > MOST_PANELS else "")
        yield Drawing(name, "Conversion to the source's answer by layer", caption, figure)


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
    for name in table["intervention"].unique(maintain_order=True):
        mine = table.filter(pl.col("intervention") == name)
        for setting in settings_of(mine, run.swept):
            title = ", ".join(filter(None, (name + _TITLES.get(run.axis(name) or "", ""), setting_label(setting))))
            panels.append((title, at_setting(mine, setting, run.swept), _cd(run, setting)))
    return panels


def _cd(run: Run, setting: dict) -> pl.DataFrame:
    """CD of all labels by layer at the largest number of shots, of the setting if it matters to CD."""
    shared = [field for field in run.swept if field in run.decodability.columns]
    rows = at_setting(run.decodability, setting, shared).filter(pl.col("task") == ALL)
    return rows.filter(pl.col("shots") == pl.col("shots").max()).sort("layer")


def _split(parts: list[Panel]) -> Iterator[list[Panel]]:
    for start in range(0, len(parts), MOST_PANELS):
        yield parts[start : start + MOST_PANELS]


def _effect_panel(axes: Axes, curves: pl.DataFrame, cd: pl.DataFrame, name_cd: bool) -> None:
    axes.axhline(0, color="black", linewidth=0.8)
    blank = curves.filter(pl.col("n") + pl.col("excluded") == 0)  # layers that a screen left out: a line stops there
    for control in reversed(in_order(curves["control"].unique())):  # the intervention itself on top
        style = line_of(control)
        curve = curves.filter(pl.col("control") == control, pl.col("n") > 0)
        curve = pl.concat([curve, blank.join(curve, on="layer", how="anti")]).sort("layer")
        x, y, low, high = (curve[name].to_numpy() for name in ("layer", "effect", "ci_low", "ci_high"))
        # markers only while they can be told apart, or between gaps; a single point is but its marker and its bar
        marker = style.marker if len(x) <= 20 or len(blank) else ""
        axes.plot(x, y, style.dashes, color=style.colour, marker=marker, markersize=3.5, linewidth=style.width)
        if len(x) == 1 or len(blank):
            axes.vlines(x, low, high, color=style.colour, linewidth=style.width if len(x) == 1 else 0.8)
        if len(x) > 1:
            axes.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0)
    if len(cd):
        _cd_axis(axes, cd, "CD" if name_cd else "")


def _cd_axis(axes: Axes, cd: pl.DataFrame, label: str) -> None:
    right = axes.twinx()
    right.plot(cd["layer"], cd["cd"], "--", color=CD_COLOUR, linewidth=1.4)
    right.axhline(cd["chance"][0], color=CD_COLOUR, linestyle=":", linewidth=0.9)
    floor_lines(right, cd, bands=False)
    right.set_ylim(0, 1.03)
    right.spines["right"].set_visible(True)
    right.spines["right"].set_color(CD_COLOUR)
    right.tick_params(axis="y", colors=CD_COLOUR)
    right.set_ylabel(label, color=CD_COLOUR)
    # the effect is what the figure is about: it is drawn over CD
    axes.set_zorder(right.get_zorder() + 1)
    axes.patch.set_visible(False)


def _label(figure: Figure, axes: list[Axes], across: int, effect: str) -> None:
    for axis in axes[-across:]:
        axis.set_xlabel("layer")
    figure.supylabel(effect, fontsize=9)


def _legend(figure: Figure, parts: list[Panel], with_cd: bool) -> None:
    controls = in_order(set(pl.concat([curves.select("control") for _, curves, _ in parts])["control"]))
    handles = [
        Line2D([], [], color=style.colour, linestyle=style.dashes, marker=style.marker, markersize=4,
               linewidth=style.width, label=control or "the intervention")
        for control in controls for style in (line_of(control),)
    ]  # fmt: skip
    if with_cd:
        shots = max(cd["shots"][0] for _, _, cd in parts if len(cd))
        handles += [
            Line2D([], [], color=CD_COLOUR, linestyle="--", label=f"CD, {shots} shots (right axis)"),
            Line2D([], [], color=CD_COLOUR, linestyle=":", label="CD's chance level"),
            *floor_key(floors_in(pl.concat([cd for _, _, cd in parts if len(cd)], how="diagonal_relaxed")), "CD, "),
        ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))
