"""What finetuning does, in words."""

from __future__ import annotations

from statistics import fmean

from patchboard.experiment.conditions_findings import Summary, condition_sentences, how_compared
from patchboard.report.numbers import fraction, spans


def introduction(summary: Summary) -> list[str]:
    """What was run, in sentences."""
    adapter, training = summary["adapter"], summary["training"]
    first, last = (spans(layers) for layers in summary["layers"].values())
    return [
        f"Model {summary['model']}, tasks of the family {summary['family']}. Low-rank adapters (rank {adapter['rank']},"
        f" alpha {adapter['alpha']:g}, dropout {adapter['dropout']:g}) in layers {first} of one model and {last} of"
        f" another, of {summary['model_layers']} layers; trained on {summary['samples']:,} prompts of"
        f" {training['shots']} shots, {training['epochs']} time{'s' * (training['epochs'] > 1)}, loss on the answers"
        " only. Their rows are of the half on which vectors are fitted: no evaluated or decoded query was seen.",
        f"States below layer {summary['layers']['last'][0]} are the same to the bit in the pretrained model and in the"
        " one whose last layers were finetuned: there its CD is unchanged by construction, whatever was learned.",
        "'prompting' is the model as it is, with the concept stated in the prompt; there the task's name alone"
        " already tells the tasks apart, so its CD is no sign that a task was inferred.",
        *how_compared(summary),
    ]


def findings(summary: Summary) -> list[str]:
    return [*condition_sentences(summary), *(_trained(which, losses) for which, losses in summary["losses"].items())]


def _trained(which: str, losses: list[float]) -> str:
    """Means of tenths: a single batch's loss is noise."""
    part = max(1, len(losses) // 10)
    begun, ended = fmean(losses[:part]), fmean(losses[-part:])
    return f"Training the {which} layers: loss {fraction(begun)} to {fraction(ended)} nats in {len(losses)} steps."
