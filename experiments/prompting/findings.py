"""What stating the concept does, in words."""

from __future__ import annotations

from patchboard.experiment.conditions_findings import Summary, condition_sentences, how_compared, overview

__all__ = ["findings", "introduction", "overview"]


def introduction(summary: Summary) -> list[str]:
    """What was run, in sentences."""
    return [
        f"Model {summary['model']}, tasks of the family {summary['family']}. The same rows in prompts that begin with"
        " the task's name, or a sentence that holds it, and in prompts that do not; evaluated, fitted and decoded"
        " prompts alike.",
        "Where the name stands in the prompt, a state that only copies it forward already tells the tasks apart: a high"
        " CD is then no sign that the task was inferred, and CD at 0 shots shows how much of it the name alone gives.",
        *how_compared(summary),
    ]


def findings(summary: Summary) -> list[str]:
    return list(condition_sentences(summary))
