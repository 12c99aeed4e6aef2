"""The figures of a run, from its tables alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from interventions.measure.decodability import ALL
from interventions.measure.effects import swept_columns
from interventions.report.style import (
    CD_STYLE,
    CONTROL_NAMES,
    CONTROL_STYLES,
    GREY,
    SHOT_MARKERS,
    TASK_COLOURS,
    figure,
    layer_ticks,
)
from tasks.base import NULL


@dataclass(frozen=True)
class Figure:
    """A drawn figure: its file's name in figures/, and how to read it."""

    name: str
    title: str
    caption: str


@dataclass(frozen=True)
class Tables:
    """What figures are drawn from."""

    curves: pl.DataFrame
    effects: pl.DataFrame
    decodability: pl.DataFrame
    summary: dict[str, Any]


def settings_of(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Every setting of the swept fields that occurs in a table, in order."""
    swept = [c for c in swept_columns(table) if c not in ("effect", "ci_low", "ci_high", "n", "excluded")]
    return table.select(swept).unique(maintain_order=True).to_dicts() if swept else [{}]


def setting_label(setting: dict[str, Any]) -> str:
    """``prompts.shots = 4`` as ``4 shots``, other fields by their last part and value."""
    parts = []
    for path, value in setting.items():
        if value is None:
            continue
        parts.append(f"{value} shots" if path == "prompts.shots" else f"{path.split('.')[-1]} {value}")
    return ", ".join(parts)


def rows_at(table: pl.DataFrame, setting: dict[str, Any]) -> pl.DataFrame:
    for path, value in setting.items():
        table = table.filter(pl.col(path).eq_missing(pl.lit(value)))
    return table


def cd_curve(decodability: pl.DataFrame) -> pl.DataFrame:
    """CD over all labels at the largest number of shots, by layer."""
    rows = decodability.filter(pl.col("task") == ALL)
    rows = rows.filter(pl.col("shots") == pl.col("shots").max())
    return rows.unique("layer", keep="first", maintain_order=True).sort("layer")


def draw_all(tables: Tables, folder: Path) -> list[Figure]:
    """Draw what the tables hold into ``folder``; returns the figures in reading order."""
    metric = tables.summary["metric"]
    drawn = [draw_effects(tables, metric, folder)] if not tables.curves.is_empty() else []
    if "conversion" in tables.curves["metric"].unique():
        drawn.append(draw_conversion(tables, folder))
    if not tables.decodability.is_empty():
        drawn.append(draw_decodability(tables.decodability, folder))
        if tables.summary.get("accuracy_against_cd"):
            drawn.append(draw_accuracy_against_cd(tables.summary["accuracy_against_cd"], folder))
    if not tables.effects.is_empty():
        drawn.append(draw_by_task(tables, metric, folder))
    return drawn


def _panels(table: pl.DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
    """(intervention, its settings) — one row of panels each."""
    names = table["intervention"].unique(maintain_order=True).to_list()
    return [(name, settings_of(table.filter(pl.col("intervention") == name))) for name in names]


def draw_effects(tables: Tables, metric: str, folder: Path) -> Figure:
    """Effect by layer with intervals, interventions and controls, CD on the same axis."""
    curves = tables.curves.filter(pl.col("metric") == metric)
    panels = _panels(curves)
    columns = max(len(settings) for _, settings in panels)
    width, height = max(4.6, 3.5 * columns + 0.8), 2.35 * len(panels) + 0.7
    cd = cd_curve(tables.decodability) if not tables.decodability.is_empty() else None
    low = min(curves["ci_low"].fill_nan(None).min() or 0, -0.05)  # type: ignore[type-var]
    high = max(curves["ci_high"].fill_nan(None).max() or 0, 0.05)  # type: ignore[type-var]
    with figure(folder / "effects.png", len(panels), columns, width, height, sharex=True) as (shown, axes):
        handles: dict[str, Any] = {}
        for row, (name, settings) in enumerate(panels):
            for column in range(columns):
                ax = axes[row, column]
                if column >= len(settings):
                    ax.set_visible(False)
                    continue
                here = rows_at(curves.filter(pl.col("intervention") == name), settings[column])
                _effect_panel(ax, here, (low, high), handles)
                label = setting_label(settings[column])
                ax.set_title(f"{name} ({here['op'][0]})" + (f", {label}" if label else ""), loc="left")
                if column == 0:
                    ax.set_ylabel(f"effect on {metric}")
                if row == len(panels) - 1:
                    ax.set_xlabel("layer")
                if cd is not None:
                    handles["CD (right axis)"] = _cd_axis(ax, cd, last=column == len(settings) - 1)
        shown.legend(
            handles.values(), handles.keys(), loc="outside upper center", ncols=3 if columns > 1 else 2, frameon=False
        )
    return Figure(
        "effects.png",
        "Where the vector acts, and where the task can be decoded",
        f"Lines: mean change of {metric} over all queries when the edit is made at that layer, with bootstrap intervals. "
        "Dashed grey: Concept Decodability at the same layer (right axis), dotted grey its chance level. A causal claim needs "
        "the blue line away from zero where the controls are not.",
    )


def _effect_panel(ax: Any, rows: pl.DataFrame, limits: tuple[float, float], handles: dict[str, Any]) -> None:
    ax.axhline(0, color="black", linewidth=0.7)
    for control in rows["control"].unique(maintain_order=True):
        own = rows.filter((pl.col("control") == control) & pl.col("effect").is_not_nan()).sort("layer")
        if own.is_empty():
            continue
        style = CONTROL_STYLES.get(control, {"color": GREY})
        x = own["layer"].to_list()
        (line,) = ax.plot(x, own["effect"], **style)
        ax.fill_between(x, own["ci_low"], own["ci_high"], color=style["color"], alpha=0.18, linewidth=0)
        if len(x) == 1:  # an interval over one layer has no area
            ax.errorbar(
                x, own["effect"], [own["effect"] - own["ci_low"], own["ci_high"] - own["effect"]], color=style["color"]
            )
        handles.setdefault(CONTROL_NAMES.get(control, control), line)
    margin = 0.06 * (limits[1] - limits[0])
    ax.set_ylim(limits[0] - margin, limits[1] + margin)
    ax.set_xticks(layer_ticks(int(rows["layer"].max()) + 1))  # type: ignore[arg-type]


def _cd_axis(ax: Any, cd: pl.DataFrame, last: bool) -> Any:
    right = ax.twinx()
    right.set_ylim(0, 1.03)
    (line,) = right.plot(cd["layer"], cd["cd"], **CD_STYLE)
    right.fill_between(cd["layer"], cd["ci_low"], cd["ci_high"], color=GREY, alpha=0.15, linewidth=0)
    right.axhline(cd["chance"][0], color=GREY, linewidth=0.8, linestyle=":")
    right.spines["right"].set_visible(last)
    right.tick_params(right=last, labelright=last, colors=GREY)
    if last:
        right.set_ylabel(f"CD at {cd['shots'][0]} shots", color=GREY)
    ax.set_zorder(right.get_zorder() + 1)  # effects in front
    ax.patch.set_visible(False)
    return line


def draw_conversion(tables: Tables, folder: Path) -> Figure:
    """Share of queries answered as the vector's own task would, by layer."""
    curves = tables.curves.filter(pl.col("metric") == "conversion")
    panels = _panels(curves)
    columns = max(len(settings) for _, settings in panels)
    width, height = max(4.2, 3.4 * columns), 2.2 * len(panels) + 0.4
    with figure(folder / "conversion.png", len(panels), columns, width, height, sharex=True, sharey=True) as (_, axes):
        for row, (name, settings) in enumerate(panels):
            for column in range(columns):
                ax = axes[row, column]
                if column >= len(settings):
                    ax.set_visible(False)
                    continue
                here = rows_at(curves.filter(pl.col("intervention") == name), settings[column])
                for control in here["control"].unique(maintain_order=True):
                    own = here.filter(pl.col("control") == control).sort("layer")
                    ax.plot(own["layer"], own["patched"], **CONTROL_STYLES.get(control, {}))
                    ax.plot(own["layer"], own["clean"], color=GREY, linestyle=":", linewidth=1.4)
                ax.set_ylim(-0.03, 1.03)
                ax.set_xticks(layer_ticks(int(here["layer"].max()) + 1))  # type: ignore[arg-type]
                ax.set_title(f"{name}, {setting_label(settings[column])}".rstrip(", "), loc="left")
                if column == 0:
                    ax.set_ylabel("answers of the\nvector's task")
                if row == len(panels) - 1:
                    ax.set_xlabel("layer")
    return Figure(
        "conversion.png",
        "Another task's vector converts answers",
        "Share of queries answered as the task whose vector was written would answer them (queries on which both tasks agree "
        "left out); dotted: the same share without an edit.",
    )


def draw_decodability(decodability: pl.DataFrame, folder: Path) -> Figure:
    """Heat map of CD, layer by shots."""
    rows = decodability.filter(pl.col("task") == ALL).unique(["layer", "shots"], keep="first", maintain_order=True)
    wide = rows.sort("layer").pivot(on="layer", index="shots", values="cd").sort("shots")
    values = wide.drop("shots").to_numpy()
    shots, layers = wide["shots"].to_list(), [int(c) for c in wide.columns if c != "shots"]
    with figure(folder / "decodability.png", 1, 1, max(4.5, 0.55 * len(layers) + 1.8), 0.45 * len(shots) + 1.2) as (
        shown,
        axes,
    ):
        ax = axes[0, 0]
        image = ax.imshow(values, vmin=0, vmax=1, cmap="cividis", aspect="auto", origin="lower")
        ax.set_xticks(layer_ticks(len(layers)), [str(layers[i]) for i in layer_ticks(len(layers))])
        ax.set_yticks(range(len(shots)), [str(s) for s in shots])
        ax.set_xlabel("layer")
        ax.set_ylabel("shots")
        if len(layers) <= 20:
            for (y, x), value in _entries(values):
                ax.text(
                    x,
                    y,
                    f"{value:.2f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="black" if value > 0.6 else "white",
                )
        shown.colorbar(image, ax=ax, label="CD", shrink=0.95)
    chance = rows["chance"][0]
    return Figure(
        "decodability.png",
        "Concept Decodability by layer and number of demonstrations",
        f"Share of prompts whose {rows['k'][0]} nearest neighbours (leave-one-out, all tasks pooled) vote for their own task; chance is {chance:.2f}.",
    )


def _entries(values: Any) -> list[tuple[tuple[int, int], float]]:
    return [((y, x), values[y, x]) for y in range(values.shape[0]) for x in range(values.shape[1])]


def draw_accuracy_against_cd(fit: dict[str, Any], folder: Path) -> Figure:
    """Scatter over tasks and shots, with the linear fit."""
    tasks: Sequence[str] = list(dict.fromkeys(p["task"] for p in fit["points"]))
    shots = sorted({p["shots"] for p in fit["points"]})
    with figure(folder / "accuracy_cd.png", 1, 1, 5.6, 3.5) as (shown, axes):
        ax = axes[0, 0]
        for p in fit["points"]:
            ax.scatter(p["cd"], p["accuracy"], color=TASK_COLOURS[tasks.index(p["task"]) % len(TASK_COLOURS)],
                       marker=SHOT_MARKERS[shots.index(p["shots"]) % len(SHOT_MARKERS)], s=34, zorder=3)  # fmt: skip
        if fit["r2"] is not None:
            ends = [min(p["cd"] for p in fit["points"]), max(p["cd"] for p in fit["points"])]
            ax.plot(ends, [fit["intercept"] + fit["slope"] * x for x in ends], color="black", linewidth=1)
            ax.set_title(f"R² = {fit['r2']:.2f} over {fit['n']} points, layer {fit['layer']}", loc="left")
        ax.set_xlabel("Concept Decodability of the task")
        ax.set_ylabel("accuracy")
        ax.set_ylim(-0.04, 1.04)
        colours = [
            ax.scatter([], [], color=TASK_COLOURS[i % len(TASK_COLOURS)], label=task) for i, task in enumerate(tasks)
        ]
        marks = [
            ax.scatter([], [], color=GREY, marker=SHOT_MARKERS[i % len(SHOT_MARKERS)], label=f"{s} shots")
            for i, s in enumerate(shots)
        ]
        shown.legend(handles=colours + marks, loc="outside right center", frameon=False)
    return Figure(
        "accuracy_cd.png",
        "Accuracy against Concept Decodability",
        "One point a task and number of shots, at the layer of highest CD; both are measured on the same prompts.",
    )


def draw_by_task(tables: Tables, metric: str, folder: Path) -> Figure:
    """Heat maps of each intervention's own effect, task by layer."""
    own = tables.effects.filter((pl.col("metric") == metric) & (pl.col("control") == "") & (pl.col("task") != NULL))
    panels = _panels(own)
    columns = max(len(settings) for _, settings in panels)
    tasks = own["task"].unique(maintain_order=True).to_list()
    layers = sorted(own["layer"].unique().to_list())
    bound = max(float(own["effect"].fill_nan(None).abs().max() or 0), 1e-9)  # type: ignore[arg-type]
    width = max(4.6, (0.34 * len(layers) + 1.2) * columns + 0.9)
    height = (0.26 * len(tasks) + 0.75) * len(panels) + 0.5
    with figure(folder / "by_task.png", len(panels), columns, width, height, sharex=True, sharey=True) as (shown, axes):
        image = None
        for row, (name, settings) in enumerate(panels):
            for column in range(columns):
                ax = axes[row, column]
                if column >= len(settings):
                    ax.set_visible(False)
                    continue
                here = rows_at(own.filter(pl.col("intervention") == name), settings[column])
                values = [[_value(here, task, layer) for layer in layers] for task in tasks]
                image = ax.imshow(values, cmap="RdBu", vmin=-bound, vmax=bound, aspect="auto")
                ax.set_yticks(range(len(tasks)), tasks)
                ax.set_xticks(layer_ticks(len(layers)), [str(layers[i]) for i in layer_ticks(len(layers))])
                ax.set_title(f"{name}, {setting_label(settings[column])}".rstrip(", "), loc="left")
                if row == len(panels) - 1:
                    ax.set_xlabel("layer")
        shown.colorbar(image, ax=axes, label=f"effect on {metric}", shrink=0.6)
    return Figure(
        "by_task.png",
        "Effect by task",
        f"Mean change of {metric} for each task and edited layer; blue raises it, red lowers it.",
    )


def _value(rows: pl.DataFrame, task: str, layer: int) -> float:
    found = rows.filter((pl.col("task") == task) & (pl.col("layer") == layer))["effect"]
    return float(found.mean()) if len(found) else float("nan")  # type: ignore[arg-type]
