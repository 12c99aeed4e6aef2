"""Draws what a W&B workspace holds after a sweep, from the very series and numbers that are logged.

    patchboard sweep sweeps/strength_shots.yaml
    python docs/draw_workspace.py runs/sweep-strength_shots-DIGEST docs/figures/wandb_workspace.png

No picture of W&B's pages themselves: theirs have other fonts, and can be rearranged.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from patchboard.report.run_files import read_run
from patchboard.report.style import CYCLE, styled
from patchboard.track.series import LAYER, rows
from patchboard.track.values import summary_values

STRENGTH, SHOTS = "interventions.patched.strength", "prompts.shots"
EFFECT, BEST = "effect/patched/accuracy", "best/effect/patched/accuracy"
DASHES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Logged:
    """What W&B has of one run. colour: of its number of shots; dashes: of its strength."""

    parameters: dict[str, Any]
    history: list[dict[str, float]]
    summary: dict[str, Any]
    colour: str
    dashes: str

    @property
    def name(self) -> str:
        return f"strength {self.parameters[STRENGTH]:g}, {shots_text(self.parameters[SHOTS])}"


def shots_text(shots: int) -> str:
    return f"{shots} shot{'s' * (shots != 1)}"


def logged(folder: Path) -> list[Logged]:
    """The runs of a sweep's folder, as they are logged."""
    points = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["points"]
    shots = sorted({point["parameters"][SHOTS] for point in points})
    strengths = sorted({point["parameters"][STRENGTH] for point in points}, reverse=True)
    found = []
    for point in points:
        run, given = read_run(folder / point["folder"]), point["parameters"]
        colour = CYCLE[shots.index(given[SHOTS])]
        dashes = DASHES[strengths.index(given[STRENGTH]) % len(DASHES)]
        found.append(Logged(given, rows(run), summary_values(run), colour, dashes))
    return found


def draw(runs: Sequence[Logged]) -> Figure:
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    listing, panels = figure.subfigures(1, 2, width_ratios=(1, 3.1))
    _list(listing.subplots(), runs)
    axes = panels.subplots(2, 2)
    _series(axes[0, 0], runs, EFFECT)
    _series(axes[0, 1], runs, "cd")
    _against(axes[1, 0], runs, STRENGTH, BEST)
    _scatter(axes[1, 1], runs, "best/cd/patched", BEST)
    return figure


def _list(axes: Axes, runs: Sequence[Logged]) -> None:
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(runs) + 0.5, -1.5)
    axes.text(0, -1, f"Runs ({len(runs)})", weight="bold")
    axes.text(1, -1, "best effect", ha="right", color="#555555", fontsize=8)
    for place, run in enumerate(sorted(runs, key=lambda run: -run.summary[BEST])):
        axes.add_line(Line2D([0, 0.11], [place, place], color=run.colour, linestyle=run.dashes, linewidth=2))
        axes.text(0.15, place, run.name, va="center", fontsize=8)
        axes.text(1, place, f"{run.summary[BEST]:+.2f}", va="center", ha="right", fontsize=8)


def _series(axes: Axes, runs: Sequence[Logged], name: str) -> None:
    for run in runs:
        known = [(row[LAYER], row[name]) for row in run.history if name in row]
        axes.plot(*zip(*known, strict=True), color=run.colour, linestyle=run.dashes, linewidth=1.3)
    _finish(axes, name, LAYER)


def _against(axes: Axes, runs: Sequence[Logged], parameter: str, value: str) -> None:
    """A value over a parameter; runs of one number of shots are joined."""
    for colour in dict.fromkeys(run.colour for run in runs):
        mine = sorted((run.parameters[parameter], run.summary[value]) for run in runs if run.colour == colour)
        shots = next(run.parameters[SHOTS] for run in runs if run.colour == colour)
        axes.plot(*zip(*mine, strict=True), "o-", color=colour, markersize=4, linewidth=1.2, label=shots_text(shots))
    axes.legend(fontsize=7.5)
    _finish(axes, value, parameter)


def _scatter(axes: Axes, runs: Sequence[Logged], x: str, y: str) -> None:
    for run in runs:
        if x in run.summary:
            axes.plot(run.summary[x], run.summary[y], "o", color=run.colour, markersize=5)
    axes.set_xlim(-0.03, 1.03)
    _finish(axes, y, x)


def _finish(axes: Axes, title: str, x: str) -> None:
    axes.set_title(title, weight="bold")
    axes.set_xlabel(x)
    axes.grid(color="#e3e3e3", linewidth=0.6)
    axes.axhline(0, color="black", linewidth=0.6)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    with styled():
        draw(logged(source)).savefig(target)
