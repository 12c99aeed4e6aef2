"""What an experiment on sparse linear regression says: tasks, model, training, and what is asked of its checkpoints.

The section ``study`` is a spec as patch_sweep.yaml is one, without the parts that this experiment settles itself.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from patchboard.errors import SpecError
from patchboard.experiment.settings import ExperimentName, ExperimentSettings, told_of_study
from patchboard.ops import OPS
from patchboard.plan.validate import Rows, check_point, refuse_floors
from patchboard.registry import suggest
from patchboard.spec import Point, Study
from patchboard.spec.kinds import FileKind
from patchboard.spec.refusal import InvalidValue, only_once
from patchboard.spec.section import Count, Section, Seed
from patchboard.spec.study import study_of
from patchboard.tasks.linear_regression import Kind, Mixture, Regression

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]

STUDIED = ("prompts", "interventions", "controls", "decodability", "statistics")
"""Sections of a spec that ``study`` may hold."""
METRIC = "squared_error"


class TaskSection(Section):
    coordinates: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        description="of x, from 0, that bear on y"
    )
    kind: Kind = Field(default="linear", description="y of W x: itself, of few coordinates, LeakyReLU, or of W x^2")
    nonzero: Count | None = Field(default=None, description="of sparse_linear: coordinates that a sequence draws")

    @model_validator(mode="after")
    def _checked(self) -> Self:
        only_once(self.coordinates)
        if (self.nonzero is not None) != (self.kind == "sparse_linear"):
            raise InvalidValue(
                f"kind {self.kind} and nonzero {self.nonzero}", "give nonzero with sparse_linear, only there"
            )
        if self.nonzero is not None and self.nonzero > len(self.coordinates):
            raise InvalidValue(f"{self.nonzero} of {len(self.coordinates)} coordinates", "write fewer", ("nonzero",))
        return self


class DataSection(Section):
    inputs: Count = Field(description="numbers of an x")
    pairs: Annotated[int, Field(ge=2)] = Field(description="(x, y) pairs of a sequence")
    noise: NotNegative = Field(default=0.1, description="standard deviation of the noise in y")
    tasks: Annotated[dict[Name, TaskSection], Field(min_length=2)] = Field(description="drawn equally often")

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for name, task in self.tasks.items():
            if max(task.coordinates) >= self.inputs:
                what = f"found {max(task.coordinates)}, x has {self.inputs} numbers, from 0"
                raise InvalidValue(what, "write smaller ones, or raise inputs", ("tasks", name, "coordinates"))
        return self

    @property
    def mixture(self) -> Mixture:
        tasks = [Regression(n, tuple(t.coordinates), t.kind, t.nonzero or 0) for n, t in self.tasks.items()]
        return Mixture(self.inputs, self.pairs, self.noise, tuple(tasks))


class ModelSection(Section):
    """transformers' GPT-2 with a linear read-in and read-out."""

    layers: Count
    width: Count
    heads: Count
    spread: Positive = Field(default=0.02, description="standard deviation of the first weights (GPT-2's is 0.02)")

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads:
            raise InvalidValue(f"{self.heads} heads do not divide width {self.width}", "change one of them", ("heads",))
        return self


class TrainingSection(Section):
    steps: Count
    batch: Count = Field(description="sequences a step, drawn anew")
    optimiser: Literal["adam", "muon"] = Field(default="adam", description="muon: of the blocks' matrices, Adam else")
    learning_rate: Positive = 1e-4
    matrix_rate: Positive = Field(default=0.01, description="muon's own learning rate")
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = [0.9, 0.9999]
    warmup: Annotated[int, Field(ge=0)] = Field(default=0, description="steps over which the rate rises to its value")
    cooldown: Annotated[int, Field(ge=0)] = Field(default=0, description="last steps, over which the rate falls to 0")
    clip: Positive | None = Field(default=None, description="largest norm of a step's gradient")
    one_by_one: Annotated[int, Field(ge=0)] = Field(
        default=0, description="curriculum: steps after which the next task joins the mixture; 0: all from the start"
    )
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="of matrix products in training")
    compiled: bool = Field(default=False, description="through torch.compile")
    seed: Seed = 0


class CheckpointsSection(Section):
    first: Count = 100
    count: Annotated[int, Field(ge=2)] = Field(default=24, description="log-spaced from the first to the last step")
    sequences: Count = Field(default=200, description="test sequences a task, for the errors")


class BaselinesSection(Section):
    ridge: Positive = Field(default=0.01, description="penalty of the squared weights")
    lasso: Positive = Field(default=0.01, description="scikit-learn's alpha")


class SyntheticSettings(ExperimentSettings):
    kind: ClassVar[FileKind] = "synthetic"

    version: Literal[1] = 1
    name: ExperimentName = "synthetic"
    data: DataSection
    model: ModelSection
    training: TrainingSection
    checkpoints: CheckpointsSection = CheckpointsSection()
    baselines: BaselinesSection = BaselinesSection()
    study: dict[str, Any] = Field(default={}, description=f"of a spec: {', '.join(STUDIED)}")

    def steps(self) -> list[int]:
        """The steps after which a checkpoint is measured, in order; the last is the last."""
        last, section = self.training.steps, self.checkpoints
        spaced = np.geomspace(min(section.first, last), last, section.count)
        return sorted({round(step) for step in spaced.tolist()})


def study_in(settings: SyntheticSettings) -> Study:
    """The experiment's study, of one point. Raises SpecError for what is none, or not of these tasks."""
    for key in settings.study:
        if key not in STUDIED:
            raise SpecError(f"study.{key}", "is no section of this experiment's study", suggest(key, STUDIED))
    prompts = settings.study.get("prompts", {})
    shots = {"shots": settings.data.pairs - 1, **prompts} if isinstance(prompts, dict) else prompts
    with told_of_study():
        study = study_of({**settings.study, "prompts": shots})
        for path in study.axes:
            if not path.startswith("interventions."):
                raise SpecError(path, "is swept; a training is studied at one setting", "sweep interventions' fields")
        (point,) = study.points
        check_point(point, Rows(tuple(settings.data.mixture.names)))
        _check_shots(point, settings.data.pairs - 1)
        if point.spec.prompts.demonstrations == "shared":
            raise SpecError(
                "prompts.demonstrations", "is shared, but each sequence is of weights of its own", "leave it out"
            )
        refuse_floors(point.spec.decodability, _NO_FLOORS)
        _check_ops(point)
    return study


_NO_FLOORS = {
    "twin": (
        "this model's own first checkpoints are of hardly any training",
        "leave it out, and set checkpoints.first: 1",
    ),
    "shuffled": ("the checkpoints are held against each other", "leave it out"),
    "probes": ("the checkpoints are decoded by neighbours alone", "leave it out"),
}


def _check_ops(point: Point) -> None:
    """Raises SpecError for noise, which is measured in token embeddings."""
    for variant in point.variants:
        for where, part in variant.located_edits:
            if OPS.get(part.op, "op").operand == "noise":
                what = f"op {part.op} is measured in token embeddings, and this model's inputs are numbers"
                raise SpecError(f"{where}.op", what, "leave it out")


def _check_shots(point: Point, most: int) -> None:
    """Raises SpecError where more pairs are to be shown than a sequence has before its last."""
    shots_of = {"prompts.shots": point.spec.prompts.shots}
    if point.spec.decodability is not None:
        shots_of["decodability.shots"] = max(point.spec.decodability.shots)
    for variant in point.variants:
        for where, part in variant.located_edits:
            if part.vector is not None:
                shots_of[f"{where}.vector.shots"] = part.vector.shots
    for where, shots in shots_of.items():
        if shots > most:
            what = f"found {shots} shots, a sequence of {most + 1} pairs has {most} before its last"
            raise SpecError(where, what, f"write at most {most}")
