"""What is trained on: prompts whose rows are all of the fit half, so that no evaluated query is among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchboard.errors import SpecError, TaskError
from patchboard.experiments.finetune.settings import TrainingSection
from patchboard.plan.facts import ModelFacts
from patchboard.spec import Spec
from patchboard.spec.sections import EMBEDDED
from patchboard.tasks.base import NULL, draw
from patchboard.tasks.prompt import Prompt
from patchboard.tasks.prompts import Prompter
from patchboard.tasks.resolve import build_family
from patchboard.tasks.sets import Halves

IGNORED = -100
"""Label of a token that enters no loss, as transformers has it."""


@dataclass(frozen=True)
class Sample:
    """A prompt with its answer. answers: indices of the tokens of all its answers, the demonstrations' too."""

    ids: tuple[int, ...]
    answers: tuple[int, ...]


def samples_of(spec: Spec, settings: TrainingSection, tokenizer: Any, facts: ModelFacts) -> list[Sample]:
    """The samples, the tasks in turn; those that cannot be aligned are left out.

    Raises TaskError where the fit half has too few rows or no sample can be used, SpecError where one is longer
    than the model reads.
    """
    halves = Halves(build_family(spec.tasks, embedded=spec.model.name == EMBEDDED), spec.prompts.seed)
    tasks = [task for task in halves.family.tasks if task != NULL]
    prompter = Prompter(tokenizer, spec.prompts.template, spec.prompts.bos)
    rows: dict[str, list] = {task: [] for task in tasks}
    for number in range(settings.samples):
        task, rng = tasks[number % len(tasks)], np.random.default_rng([settings.seed, 0xF17E, number])
        rows[task].append(draw(halves.fit, task, settings.shots + 1, rng, "training.shots"))
    of_task = {task: prompter.prompts(task, drawn) for task, drawn in rows.items()}
    prompts = [of_task[tasks[number % len(tasks)]][number // len(tasks)] for number in range(settings.samples)]
    usable = [_sample(prompt) for prompt in prompts if not prompt.excluded]
    if not usable:
        raise TaskError("study.tasks", f"no sample can be used: {prompts[0].excluded}", "change the task or template")
    longest = max(len(sample.ids) for sample in usable)
    if facts.context and longest > facts.context:
        what = f"a sample has {longest} tokens, the model reads {facts.context}"
        raise SpecError("training.shots", what, "use fewer shots")
    return usable


def _sample(prompt: Prompt) -> Sample:
    own = range(len(prompt.token_ids), len(prompt.token_ids) + len(prompt.answer_ids))
    shown = [index for answer in prompt.demo_answers for index in answer]
    return Sample((*prompt.token_ids, *prompt.answer_ids), (*shown, *own))


def batch_at(step: int, samples: list[Sample], settings: TrainingSection, device: torch.device) -> dict[str, Tensor]:
    """``input_ids, attention_mask, labels`` [batch, seq] of a step, padded on the right; a new order every epoch."""
    epoch, within = divmod(step, steps_an_epoch(len(samples), settings))
    order = np.random.default_rng([settings.seed, 0x0EDE, epoch]).permutation(len(samples))
    chosen = [samples[i] for i in order[within * settings.batch : (within + 1) * settings.batch]]
    shape = len(chosen), max(len(sample.ids) for sample in chosen)
    ids, mask, labels = torch.zeros(shape, dtype=torch.long), torch.zeros(shape), torch.full(shape, IGNORED)
    for row, sample in enumerate(chosen):
        ids[row, : len(sample.ids)] = torch.tensor(sample.ids)
        mask[row, : len(sample.ids)] = 1
        labels[row, list(sample.answers)] = ids[row, list(sample.answers)]
    batch = {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}
    return {name: value.to(device) for name, value in batch.items()}


def steps_an_epoch(samples: int, settings: TrainingSection) -> int:
    return -(-samples // settings.batch)


def steps_of_training(samples: int, settings: TrainingSection) -> int:
    return settings.epochs * steps_an_epoch(samples, settings)
