"""The loss of both trainings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.figure import Figure

from patchboard.report.drawing import Drawing
from patchboard.report.style import CYCLE, WIDTH


def training_curve(summary: Mapping[str, Any]) -> Iterator[Drawing]:
    """One drawing, drawn when it is taken: only then is the report's look in force."""
    figure = Figure(figsize=(WIDTH, 2.2), layout="constrained")
    axes = figure.subplots()
    for number, (which, losses) in enumerate(summary["losses"].items(), 1):  # colours as of the conditions
        axes.plot(range(1, len(losses) + 1), losses, color=CYCLE[number], linewidth=1.2, label=f"{which} layers")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats)")
    axes.legend()
    caption = "Cross-entropy of the answers' tokens, of each step's batch, at all numbers of shots of its prompts."
    yield Drawing("training", "Loss of the finetuning", caption, figure)
