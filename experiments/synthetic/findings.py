"""A finished experiment in sentences and one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from patchboard.experiment.page import Table
from patchboard.experiments.synthetic.settings import SyntheticSettings


def introduction(settings: SyntheticSettings) -> list[str]:
    data, model, training = settings.data, settings.model, settings.training
    of_tasks = "; ".join(
        f"{name}: {task.kind.replace('_', ' ')} of x{', x'.join(map(str, task.coordinates))}"
        for name, task in data.tasks.items()
    )
    order = f", a further task every {training.one_by_one} steps" if training.one_by_one else ""
    return [
        f"Sequences of {data.pairs} pairs (x, y), x of {data.inputs} normal numbers, noise of standard deviation"
        f" {data.noise:g} in y. Weights are new in each sequence; which of these tasks it follows must be inferred:"
        f" {of_tasks}.",
        f"GPT-2 of {model.layers} layers, {model.heads} heads, width {model.width}, trained by {training.optimiser} for"
        f" {training.steps} steps of {training.batch} sequences{order}; the loss is the squared error at the y.",
        "Each checkpoint is asked the same questions on the same sequences, none of which it is trained on.",
    ]


def findings(summary: Mapping[str, Any]) -> list[str]:
    """A sentence for each task, and one for each matrix."""
    said = []
    for name, task in summary["tasks"].items():
        error, base = task["error"], task["baselines"]
        lines = ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in base.items())
        fell = (
            f"fell below the middle between ridge and mixture by step {task['fell']}"
            if task["fell"]
            else "did not leave ridge"
        )
        readable = ""
        if task["cd"] is not None:
            when = f"was readable by step {task['readable']}" if task["readable"] else "did not become readable"
            readable = f"; the task {when} (CD {task['cd']:.2f} at layer {summary['layer']} at the end)"
            if task["spearman"] is not None:
                readable += f"; rank correlation of error and CD over checkpoints {task['spearman']:+.2f}"
        said.append(f"{name}: the error {fell}; at the end {error['error']:.3f} ({lines}){readable}.")
    for name, matrix in summary["matrix"].items():
        said.append(
            f"{name} at layer {matrix['layers']}, last checkpoint: mean change in squared error"
            f" {matrix['own']:+.3f} with the own task's vector, {matrix['other']:+.3f} with another's"
            " (layer chosen on the other half of queries)."
        )
    return said


def overview(summary: Mapping[str, Any]) -> list[Table]:
    rows = []
    for name, task in summary["tasks"].items():
        error = task["error"]
        measured = f"{error['error']:.3f} [{error['ci_low']:.3f}, {error['ci_high']:.3f}]"
        baselines = [f"{value:.3f}" for value in task["baselines"].values()]
        rows.append([name, measured, *baselines, *map(_plain, (task["fell"], task["readable"], task["cd"]))])
    names = [name.replace("_", " ") for name in next(iter(summary["tasks"].values()))["baselines"]]
    heads = ["task", "error", *names, "fell at step", "readable at step", "CD"]
    return [Table("Last checkpoint", heads, rows)]


def _plain(value: float | int | None) -> str:
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
