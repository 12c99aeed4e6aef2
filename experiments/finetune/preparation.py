"""What a finetuning is about, known before a weight is read: whatever can be refused is refused here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patchboard.engine.load import open_model
from patchboard.errors import SpecError
from patchboard.execution.planned import plan_study
from patchboard.experiment.settings import told_of_study
from patchboard.experiments.finetune.adapters import WHICH, Which, layers_of
from patchboard.experiments.finetune.samples import Sample, samples_of
from patchboard.experiments.finetune.settings import FinetuneSettings, study_of_settings
from patchboard.extras import require_extra
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import ModelPlan
from patchboard.plan.validate import check_study
from patchboard.spec import Study, study_of


@dataclass(frozen=True)
class Preparation:
    """study: what each model is asked. stated: the same, with the task's name in the prompt. layers: those trained."""

    settings: FinetuneSettings
    study: Study
    stated: Study | None
    plans: list[ModelPlan]
    tokenizer: Any
    facts: ModelFacts
    samples: list[Sample]
    layers: dict[Which, list[int]]

    @property
    def study_in_memory(self) -> Study:
        """What a model in memory is asked, which is run as it is: without the section's dtype."""
        return study_of({**self.study.tree, "model": {"name": self.settings.model.name}})


def prepare(settings: FinetuneSettings) -> Preparation:
    """settings: with their paths resolved. Raises PatchboardError: nothing is trained for a study that cannot run."""
    require_extra("adapters", SpecError, "adapter", "finetuning")
    for field, value in settings.model.changes.items():
        what = f"found {value}, which would be put on the finetuned models once more"
        raise SpecError(f"model.{field}", what, "save the changed model as a folder of its own and name it")
    study, stated = study_of_settings(settings), None
    if settings.stated is not None:
        if "{task}" not in settings.stated:
            raise SpecError("stated", "does not hold {task}", 'write it as in "{task}\\n", or null')
        stated = study_of_settings(settings, settings.stated)
    with told_of_study():
        check_study(study)
    tokenizer, facts = open_model(settings.model)
    layers: dict[Which, list[int]] = {which: layers_of(which, settings.adapter, facts.layers) for which in WHICH}
    samples = samples_of(study.points[0].spec, settings.training, tokenizer, facts)
    with told_of_study():
        plans = [plan for each in (study, stated) if each is not None for plan in plan_study(each)]
    return Preparation(settings, study, stated, plans, tokenizer, facts, samples, layers)
