"""What an experiment would run, counted before anything is."""

from __future__ import annotations

from typing import Any

from patchboard.experiments.hijack.settings import Hijack


def plan(settings: Hijack) -> dict[str, Any]:
    """Models, tokens they are trained on, and prompts they are measured on."""
    training, prompts = settings.training, settings.prompts
    models = [f"{positions}-{seed}" for positions in settings.model.positions for seed in training.seeds]
    tokens = training.steps * training.batch * training.length
    kinds = len(prompts.counts) + len(prompts.distances) + 2 * len(prompts.lengths)
    return {
        "models": ", ".join(models),
        "steps of each": training.steps,
        "tokens that each is trained on": tokens,
        "prompts that each is measured on": kinds * prompts.each,
        "longest prompt": settings.longest,
        "digest": settings.digest[:8],
    }
