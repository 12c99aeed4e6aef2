"""How large a job's answer is at most, which a plan tells before anything is sent."""

from __future__ import annotations

from patchboard.engine.ndif.jobs import Job, recipes_of, slots_of
from patchboard.plan.model import ModelPlan
from patchboard.plan.shown import shown_copies, top_bytes

ANSWER_BYTES, TENSOR_BYTES = 1600, 300
"""Of an answer and of each of its tensors, beside the numbers themselves: torch's container, keys, served versions.
Measured: 1,489 bytes around two tensors, 40 to 205 more for each further one."""


def largest_answer(plan: ModelPlan, job: Job, scores: int, vectors: bool) -> int:
    """Bytes that a job's answer has at most: its numbers as they are, as if nothing of them could be compressed.

    scores: of each answer, beside accuracy. vectors: whether it brings fitted vectors home.
    """
    if job.decoding:
        tensors, numbers = 2, 2 * job.answers + job.answers // max(1, len(job.layers))
    else:
        tensors, numbers = 2 + scores, 4 * scores * job.own_answers + job.answers + 4 * len(slots_of(job))
        tensors += 4 if any(shown_copies(group) for group, _ in job.packs) else 0
        numbers += sum(top_bytes(group, pack.prompts, pack.copies) for group, pack in job.packs)
    for recipe in recipes_of(plan, job.packs).values() if vectors else ():
        width = len(recipe.neurons) or plan.facts.width_at(recipe.place.site if not recipe.heads else "resid_post")
        tensors += 3 if recipe.rank else 1
        numbers += 4 * width * (2 * recipe.rank + 1)
    tasks = sum(len(task) for fit in plan.fits for task in fit.prompts)  # those of which no prompt was answered rightly
    whole = ANSWER_BYTES + tasks + TENSOR_BYTES * tensors + numbers
    return whole + (whole >> 8)  # what cannot be compressed grows by no more
