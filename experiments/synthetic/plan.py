"""What an experiment would run, without training anything."""

from __future__ import annotations

from typing import Any

from patchboard.experiments.synthetic.settings import Settings, study_in


def plan(settings: Settings) -> dict[str, Any]:
    """Sizes and counts as plain data. Raises SpecError."""
    from patchboard.experiments.synthetic.planned import planned
    from patchboard.plan.cost import cost_of
    from patchboard.plan.packs import Budget

    study = study_in(settings)
    model, training = settings.model, settings.training
    blocks = model.layers * (12 * model.width**2 + 13 * model.width)
    tokens = training.batch * 2 * settings.data.pairs
    cost = cost_of(planned(settings, study).plan, "auto", Budget()).as_dict()
    steps = settings.steps()
    return {
        "tasks": ", ".join(settings.data.tasks),
        "parameters": blocks + 2 * settings.data.pairs * model.width + (settings.data.inputs + 6) * model.width + 1,
        "steps": training.steps,
        "tokens a step": tokens,
        # 6 operations a parameter and token: forward, and backward by inputs and by weights
        "petaflop of training": round(6e-15 * blocks * tokens * training.steps, 3),
        "checkpoints": ", ".join(map(str, steps)),
        "a checkpoint": ", ".join(f"{cost[name]} {name}" for name in ("cells", "queries", "forwards", "token_layers")),
        "ways": cost["ways"],
    }
