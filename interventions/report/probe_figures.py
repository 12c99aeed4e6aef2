"""Probes beside CD: accuracy by layer with what it is held against, and each task's accuracy against its CD."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from patchboard.measure.decodability import ALL
from patchboard.measure.probe_summary import agreement, beside_cd
from patchboard.report.drawing import Drawing, colour_bar, columns_for, panels, whole_layers
from patchboard.report.drawn import joined, tidy
from patchboard.report.marks import CD_LOOK, SHUFFLED_LOOK, TWIN_LOOK, Look, level_line, line_with_band, look_of
from patchboard.report.numbers import counted, fraction
from patchboard.report.run_files import Run, probed
from patchboard.report.style import CD_COLOUR

_FEATURES_LOOK: Look = {"color": "#A9A9A9", "linestyle": "--", "linewidth": 0.8}
_FLOORS = {
    "shuffled": ("control task, the best probe", SHUFFLED_LOOK),
    "random_features": ("random features of the tokens, the best probe", _FEATURES_LOOK),
    "twin": ("an untrained twin, the best probe", TWIN_LOOK),
}
"""Column of what accuracy is held against -> its name in a legend, and its look."""


def probe_figures(run: Run) -> Iterator[Drawing]:
    """Two figures for each different table of probes; none where the spec asked for none."""
    tables = probed(run)
    for number, (setting, table) in enumerate(tables, start=1):
        ending = f"-{number}" if len(tables) > 1 else ""
        behind = f", {setting}" if setting else ""
        table = beside_cd(table, run.decodability)
        yield _by_layer(table, ending, behind)
        yield _against_cd(table.filter(pl.col("shots") == pl.col("shots").max()), ending, behind)


def _by_layer(table: pl.DataFrame, ending: str, behind: str) -> Drawing:
    overall = table.filter(pl.col("task") == ALL).sort("layer")
    shots = overall["shots"].unique().sort().to_list()
    probes = overall["probe"].unique(maintain_order=True).to_list()
    columns = min(3, len(shots))
    figure, axes = panels([counted(each, "shot") for each in shots], columns, height=2.1, share_y=True)
    floors = [name for name in _FLOORS if name in overall.columns]
    for axis, each in zip(axes, shots, strict=True):
        _panel(axis, overall.filter(pl.col("shots") == each), probes, floors)
    for axis in axes[-columns:]:
        axis.set_xlabel("layer")
    figure.supylabel("accuracy of probes, CD")
    handles = [Line2D([], [], label=name, markersize=3, **look_of(n)) for n, name in enumerate(probes)]
    handles += [Line2D([], [], label="CD", markersize=3, **CD_LOOK)]
    handles += [Line2D([], [], label=_FLOORS[name][0], **_FLOORS[name][1]) for name in floors]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    caption = (
        "Share of prompts whose task a probe finds in the state before the answer; it is fitted on other queries. Bands"
        " are bootstrap intervals over queries, dotted is chance. Control task: labels drawn for each query, which a"
        " probe cannot tell of queries that it never saw. Random features: a random vector for each token of the"
        " prompt, averaged, in place of the state: what the tokens give without any model."
    )
    if "twin" in floors:
        caption += " The untrained twin has random weights: what lies above it was learned."
    numbers = joined(_numbers(overall, probes, floors))
    return Drawing(f"probes{ending}", f"CD and probes by layer{behind}", caption, figure, numbers)


def _numbers(overall: pl.DataFrame, probes: list[str], floors: list[str]) -> list[pl.DataFrame]:
    """Accuracy of the probes, what it is held against, and CD."""
    once = overall.filter(pl.col("probe") == probes[0]).drop("probe")
    tables = [tidy(overall, "accuracy", metric="accuracy of the probe", unit="fraction")]
    for name in floors:
        best = _best(overall, floors, "shots")
        tables.append(tidy(best, name, "", metric=_FLOORS[name][0], unit="fraction"))
    tables.append(tidy(once, "cd", "", metric="CD", unit="fraction"))
    return [*tables, tidy(once, "chance", "", metric="chance", unit="fraction")]


def _best(rows: pl.DataFrame, floors: list[str], *keys: str) -> pl.DataFrame:
    """What accuracy is held against by layer (and ``keys``): of the probe that finds most of it."""
    return rows.group_by(*keys, "layer").agg(pl.col(floors).max()).sort(*keys, "layer")


def _panel(axis: Axes, rows: pl.DataFrame, probes: list[str], floors: list[str]) -> None:
    level_line(axis, rows["chance"][0], color=CD_COLOUR, linestyle=":", linewidth=1)
    best = _best(rows, floors)
    for name in floors:
        axis.plot(best["layer"], best[name], **_FLOORS[name][1])
    for number, probe in enumerate(probes):
        own = rows.filter(pl.col("probe") == probe)
        line_with_band(axis, own, ("layer", "accuracy"), alpha=0.1, markersize=_size(len(own)), **look_of(number))
    once = rows.filter(pl.col("probe") == probes[0])
    axis.plot(once["layer"], once["cd"], markersize=_size(len(once)), **CD_LOOK)
    axis.set_ylim(-0.02, 1.02)
    whole_layers(axis, once["layer"].to_numpy())


def _size(layers: int) -> float:
    """Of markers: none where they could not be told apart."""
    return 3 if layers <= 20 else 0


def _against_cd(table: pl.DataFrame, ending: str, behind: str) -> Drawing:
    single = table.filter(pl.col("task") != ALL)
    probes = single["probe"].unique(maintain_order=True).to_list()
    parts = {probe: single.filter(pl.col("probe") == probe) for probe in probes}
    ranks = {probe: agreement(rows) for probe, rows in parts.items()}
    titles = [f"{probe}, rank correlation {fraction(r['spearman'] if r else None)}" for probe, r in ranks.items()]
    across = columns_for(titles)
    figure, axes = panels(titles, across, height=2.4, share_y=True)
    deepest = max(single["layer"].max(), 1)  # type: ignore[type-var]  # layers are numbers
    for axis, rows in zip(axes, parts.values(), strict=True):
        axis.axline((0, 0), (1, 1), color="#B0B0B0", linewidth=0.9, zorder=0)
        dots = axis.scatter(
            rows["cd"], rows["accuracy"], c=rows["layer"], cmap="viridis", vmin=0, vmax=deepest, s=14, linewidths=0,
        )  # fmt: skip
        axis.set_xlim(-0.02, 1.02)
        axis.set_ylim(-0.02, 1.02)
    for axis in axes[-across:]:
        axis.set_xlabel("CD")
    figure.supylabel("accuracy of the probe")
    colour_bar(figure, dots, "layer")
    after = counted(single["shots"][0], "demonstration")
    caption = (
        f"Each point is one task at one layer, after {after}. On the grey line CD and probe agree; above it a probe"
        " finds more than the nearest neighbours do, by directions that distance does not see. The rank correlation is"
        " over these points, which are no independent sample."
    )
    numbers = tidy(single, "accuracy", keep=["cd"], metric="accuracy of the probe", unit="fraction")
    return Drawing(f"probes-cd{ending}", f"Probes against CD, by task and layer{behind}", caption, figure, numbers)
