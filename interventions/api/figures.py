"""The figures of the report by their kind."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from patchboard.errors import SpecError
from patchboard.registry import suggest
from patchboard.report.decodability_figures import accuracy_figures, cd_figures
from patchboard.report.drawing import Drawing
from patchboard.report.effect_figures import conversion_figures, effect_figures
from patchboard.report.faithfulness_figures import faithfulness_figures
from patchboard.report.guarded_figures import guarded_figures
from patchboard.report.layer_map_figures import head_figures, position_figures
from patchboard.report.learned_figures import learned_figures
from patchboard.report.probe_figures import probe_figures
from patchboard.report.run_files import Run, read_run
from patchboard.report.screen_figures import screen_figures
from patchboard.report.style import styled
from patchboard.report.task_figures import task_figures

_KINDS: dict[str, dict[str | None, Callable[[Run, str], Iterator[Drawing]]]] = {
    "effect": {
        None: effect_figures,
        "task": lambda run, metric: task_figures(run),
        "head": head_figures,
        "position": position_figures,
    },
    "cd": {None: lambda run, metric: cd_figures(run)},
    "probes": {None: lambda run, metric: probe_figures(run)},
    "guardedness": {None: lambda run, metric: guarded_figures(run)},
    "faithfulness": {None: lambda run, metric: faithfulness_figures(run)},
    "accuracy": {None: lambda run, metric: accuracy_figures(run)},
    "learned": {None: lambda run, metric: learned_figures(run)},
    "screen": {None: lambda run, metric: screen_figures(run)},
    "conversion": {
        None: lambda run, metric: conversion_figures(run),
        "head": lambda run, metric: head_figures(run, "conversion"),
        "position": lambda run, metric: position_figures(run, "conversion"),
    },
}
"""Kind -> by what it is told apart -> what draws it of a run and a metric."""


def figure_of(folder: Path, kind: str, by: str | None, metric: str | None, number: int) -> Figure:
    """The figure that ``Run.plot`` returns. Raises SpecError and RunFolderError."""
    if kind not in _KINDS:
        raise SpecError("plot", f"unknown kind {kind!r}", suggest(str(kind), _KINDS))
    if by not in _KINDS[kind]:
        groupings = [each for each in _KINDS[kind] if each]
        remedy = suggest(str(by), groupings) if groupings else "leave it out"
        raise SpecError("plot", f"'{kind}' is not drawn by {by!r}", remedy)
    run = read_run(folder)
    measured = run.curves["metric"].unique(maintain_order=True).to_list()
    if metric is not None and (kind != "effect" or by == "task") and metric != run.metric:
        what = f"the figure of '{kind}'{' by task' if by else ''} has no metric of its own"
        raise SpecError("plot", what, "leave metric out")
    if metric is not None and metric not in measured:
        raise SpecError("plot", f"the run has no metric {metric!r}", suggest(str(metric), measured))
    with styled():
        drawings = list(_KINDS[kind][by](run, metric or run.metric))
    if not drawings:
        raise SpecError("plot", f"the run has nothing to draw as '{kind}'{f' by {by}' if by else ''}", _instead(kind))
    if not 1 <= number <= len(drawings):
        what = f"there is no figure {number} of '{kind}', expected 1 to {len(drawings)}"
        raise SpecError("plot", what, "give another number")
    if len(drawings) > 1 and number == 1:
        warnings.warn(f"this is figure 1 of {len(drawings)}; number=2 gives the next", stacklevel=3)
    drawing = drawings[number - 1]
    figure = drawing.figure
    figure._repr_png_ = partial(_png, drawing)  # type: ignore[attr-defined]  # for notebooks that never import pyplot
    return figure


def _png(drawing: Drawing) -> bytes:
    with styled():
        return drawing.png()


def _instead(kind: str) -> str:
    if kind in ("probes", "guardedness"):
        return f"ask the spec for {'decodability.' * (kind == 'probes')}{kind}"
    return "ask the spec for decodability" if kind in ("cd", "accuracy") else "choose another kind"
