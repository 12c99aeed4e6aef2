"""Do the prompts lie within the model's limits: ids within its vocabulary, lengths within its context?"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from patchboard.errors import ModelError
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import ModelPlan
from patchboard.tasks.prompt import Prompt


def check_limits(plan: ModelPlan) -> None:
    """Raises ModelError for a token that the model has no embedding for, or a sequence it cannot take by itself.

    A model with rotary positions computes something for any length; beyond the length it was trained on
    that is not the model that anyone means to study.
    """
    for group in plan.groups:
        targets = {copy.target for copy in group.copies if copy.target}
        _check(plan.facts, "prompts.shots", group.task, group.shots, group.prompts, targets)
    for fit in plan.fits:
        for task, prompts in fit.prompts.items():
            _check(plan.facts, "interventions (vector.shots)", task, fit.shots, prompts)
    for decoding in plan.decodings:
        for task, prompts in decoding.prompts.items():
            _check(plan.facts, "decodability.shots", task, max(decoding.section.shots), prompts)
    for guarding in plan.guardings:
        for task, prompts in guarding.prompts.items() if guarding.half == "held_out" else ():
            _check(plan.facts, "guardedness.shots", task, guarding.shots, prompts)


def _check(
    facts: ModelFacts, where: str, task: str, shots: int, prompts: Sequence[Prompt], targets: Collection[str] = ()
) -> None:
    """targets: other tasks whose answers are fed in as well."""
    usable = [
        (p.token_ids, [ids for target in ("", *targets) for ids in p.right(target)]) for p in prompts if not p.excluded
    ]
    for tokens, answers in usable:
        largest = max(max(tokens), *map(max, answers))
        if largest >= facts.vocab:
            raise ModelError(
                "model.name",
                f"its tokenizer gives id {largest} in a prompt of {task}, the model knows {facts.vocab} tokens",
                "use the tokenizer that belongs to the model",
            )
    # an answer's last token is predicted and never fed in
    longest = max((len(tokens) + max(map(len, answers)) - 1 for tokens, answers in usable), default=0)
    length = f"a prompt of {task} with {shots} shot{'s' * (shots != 1)} has {longest} tokens with its answer"
    if 0 < facts.context < longest:
        what = f"{length}, the model's context (the length it was trained on) is {facts.context}"
        raise ModelError(where, what, "use fewer shots, or a model with a longer context")
    if 0 < facts.rotary_limit < longest:
        what = f"{length}, beyond {facts.rotary_limit} this model's rotary frequencies depend on what else is in a pass"
        raise ModelError(where, what, "use fewer shots, or a model whose rotary positions are scaled once for all")
