"""What an experiment would train and run; the models' configuration and tokenizer are read, no weights."""

from __future__ import annotations

from typing import Any

from patchboard.experiments.finetune.settings import Settings


def plan(settings: Settings) -> dict[str, Any]:
    """Sizes and counts as plain data. settings: ``settled``. Raises PatchboardError."""
    from patchboard.experiments.finetune.adapters import WHICH, adapted, layers_of, trained_parameters, without_weights
    from patchboard.experiments.finetune.run import asked_of
    from patchboard.experiments.finetune.samples import steps_an_epoch
    from patchboard.plan.cost import cost_of
    from patchboard.plan.packs import Budget

    asked = asked_of(settings)
    layers = {which: layers_of(which, settings.adapter, asked.facts.layers) for which in WHICH}
    models = {
        which: adapted(without_weights(settings.model), settings.adapter, chosen, settings.training.seed)
        for which, chosen in layers.items()
    }
    tokens = sum(len(sample.ids) for sample in asked.samples) * settings.training.epochs
    costs = [cost_of(plan, "auto", Budget()).as_dict() for plan in asked.plans]
    return {
        "model": settings.model.name,
        "samples": len(asked.samples),
        "steps of each training": settings.training.epochs * steps_an_epoch(len(asked.samples), settings.training),
        "tokens of each training": tokens,
        **{
            f"{which} layers": f"{', '.join(map(str, layers[which]))} (of 0 to {asked.facts.layers - 1}), "
            f"{trained_parameters(model):,} weights learn"
            for which, model in models.items()
        },
        "conditions": ", ".join(asked.conditions),
        "measuring": "; ".join(
            ", ".join(f"{cost[name]} {name}" for name in ("cells", "queries", "forwards", "token_layers"))
            + f" for {'each of 3 models' if number == 0 else 'the stated prompts'}"
            for number, cost in enumerate(costs)
        ),
        "digest": settings.digest[:8],
    }
