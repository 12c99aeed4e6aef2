"""The loss of both trainings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from patchboard.report.drawing import Drawing, single
from patchboard.report.drawn import joined, tidy
from patchboard.report.style import CYCLE


def training_curve(summary: Mapping[str, Any]) -> Iterator[Drawing]:
    """One drawing, drawn when it is taken: only then is the report's look in force."""
    figure, axes = single(2.2)
    numbers = []
    for number, (which, losses) in enumerate(summary["losses"].items(), 1):  # colours as of the conditions
        table = pl.DataFrame({"step": range(1, len(losses) + 1), "loss": losses})
        dashes = "-" if number == 1 else "--"
        axes.plot(table["step"], table["loss"], dashes, color=CYCLE[number], linewidth=1.2, label=f"{which} layers")
        numbers.append(tidy(table, "loss", condition=f"{which} layers", metric="loss", unit="nats"))
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats)")
    axes.legend()
    caption = "Cross-entropy of the answers' tokens, of each step's batch, at all numbers of shots of its prompts."
    yield Drawing("training", "Loss of the finetuning", caption, figure, joined(numbers))
