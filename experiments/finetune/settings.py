"""What a finetuning experiment says: the model, the adapters, their training, and the spec that all are measured by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from patchboard.errors import SpecError
from patchboard.experiment.models_beside import model_beside
from patchboard.experiment.settings import ExperimentName, ExperimentSettings, told_of_study
from patchboard.registry import suggest
from patchboard.spec import Study, study_of
from patchboard.spec.kinds import FileKind
from patchboard.spec.section import Count, Differing, Section, Seed, Shots
from patchboard.spec.sections import EMBEDDED, ModelSection
from patchboard.spec.values import shown
from patchboard.spec.yaml_text import read_yaml
from patchboard.user_paths import expanded

Positive = Annotated[float, Field(gt=0)]

STUDIED = ("tasks", "prompts", "interventions", "controls", "metrics", "decodability", "statistics")
"""Sections of a spec that ``study`` may hold."""
NOT_STUDIED = ("version", "name", "model")
"""Sections that a whole spec holds besides; the experiment has its own."""


class AdapterSection(Section):
    """Low-rank adapters (LoRA), one model with them in its first layers, one in its last."""

    rank: Count = 16
    alpha: Positive = Field(default=16.0, description="an adapter's output is scaled by alpha / rank")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.1, description="of an adapter's input, in training")
    layers: Count = Field(default=2, description="how many first and how many last ones; the paper: 10 of 32")
    modules: Literal["all"] | Annotated[list[str], Field(min_length=1), Differing] | None = Field(
        default="all",
        description="names of the modules adapted; all: every linear map of these layers; null: peft's own choice for"
        " the model's type. Not stated in the paper",
    )


class TrainingSection(Section):
    samples: Count = Field(default=10_000, description="prompts, the tasks in turn, without Null; as many in the paper")
    shots: Shots = Field(
        default=8,
        description="demonstrations of a sample. The loss takes every answer in it, so all numbers of shots up to this"
        " are trained at once; the paper says 'on the answers only' and no number",
    )
    epochs: Count = Field(default=2, description="passes over the samples. Not stated in the paper")
    batch: Count = Field(default=64, description="samples a step. Not stated in the paper")
    learning_rate: Positive = Field(default=1e-2, description="AdamW's highest. Not stated in the paper")
    warmup: Annotated[int, Field(ge=0)] = Field(default=10, description="steps of rising rate; then straight down to 0")
    clip: Positive | None = Field(default=1.0, description="largest norm of a step's gradient")
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="of matrix products in training")
    seed: Seed = 0
    checkpoint: Count = Field(default=25, description="steps between checkpoints, at which a killed training resumes")


class FinetuneSettings(ExperimentSettings):
    kind: ClassVar[FileKind] = "finetune"

    version: Literal[1] = 1
    experiment: Literal["finetune"]
    name: ExperimentName = "finetune"
    model: ModelSection = ModelSection()
    adapter: AdapterSection = AdapterSection()
    training: TrainingSection = TrainingSection()
    stated: str | None = Field(
        default=None, description="a prefix that holds {task}: the model as it is, prompted so, is compared too"
    )
    study: dict[str, Any] | str = Field(description=f"of a spec: {', '.join(STUDIED)}; or a spec's path")


def resolve_paths(settings: FinetuneSettings, scripts: Path) -> FinetuneSettings:
    """The settings with ``study`` read where it is a path, and the model found beside the scripts where it lies there.

    Raises SpecError where the path holds no spec.
    """
    from patchboard.engine.source import source_of

    # the embedded model as a folder too: tasks have other defaults for it, and its finetuned kin are not called so
    embedded = settings.model.name == EMBEDDED
    name = source_of(settings.model)[0] if embedded else model_beside(settings.model.name, scripts)
    model = settings.model.model_copy(update={"name": name})
    return read_study(settings).model_copy(update={"model": model})


def read_study(settings: FinetuneSettings) -> FinetuneSettings:
    """The settings with ``study`` read where it is a path. Raises SpecError where the path holds no spec."""
    study = _read(expanded(settings.study)) if isinstance(settings.study, str) else settings.study
    return settings.model_copy(update={"study": study})


def _read(file: Path) -> dict[str, Any]:
    try:
        tree = read_yaml(file.read_text(encoding="utf-8-sig"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SpecError("study", f"'{file}' cannot be read ({reason})", "give a spec, or its path") from None
    if not isinstance(tree, dict):
        raise SpecError("study", f"'{file}' holds {shown(tree)}, expected a mapping", "give the path of a spec")
    return {key: value for key, value in tree.items() if key not in NOT_STUDIED}


def study_of_settings(settings: FinetuneSettings, prefix: str | None = None) -> Study:
    """What the experiment asks of each model. prefix: of its prompts, in place of the study's own.

    Raises SpecError for what is none, and where it sweeps anything but shots (``conditions.check_comparable``).
    """
    from patchboard.experiment.conditions import check_comparable

    assert isinstance(settings.study, dict), "read_study() has read it"
    for key in settings.study:
        if key not in STUDIED:
            raise SpecError(f"study.{key}", "is no section of this experiment's study", suggest(key, STUDIED))
    tree = {**settings.study, "name": settings.name, "model": settings.model.model_dump()}
    with told_of_study():
        study = study_of(tree)
        check_comparable(study, "model.name")
        return study if prefix is None else study_of(study.tree, {"prompts.template.prefix": prefix})
