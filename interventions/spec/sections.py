"""The spec's sections as frozen, strict data: what a YAML file may say, and nothing about how to run it.

Names that other modules register (ops, metrics, families, controls) are plain strings here;
``patchboard.plan.validate`` holds them against the registries, so that this package imports none of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from patchboard.spec.controls import Control
from patchboard.spec.edits import InterventionSection
from patchboard.spec.generate import GenerateSection
from patchboard.spec.guardedness import GuardednessSection
from patchboard.spec.outcomes import OutcomesSection
from patchboard.spec.packaged import PACKAGED, PackagedModel
from patchboard.spec.prompts import PromptsSection
from patchboard.spec.refusal import InvalidValue
from patchboard.spec.screen import ScreenSection
from patchboard.spec.section import Count, Differing, Section, Seed, Shots
from patchboard.spec.values import shown

EMBEDDED = "embedded"
"""``model.name`` of the model that comes with the package."""


class ModelSection(Section):
    name: str = Field(
        default=EMBEDDED,
        description="'embedded', a packaged model, a Hub name, a folder in the Hub's format, or a .gguf file",
    )
    revision: str = Field(default="main", description="branch, tag or commit of a Hub model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="auto: float32 for the embedded model and on CPU, else the checkpoint's own",
    )
    adapter: str | None = Field(
        default=None, description="a peft adapter (folder or Hub name), merged into the model's weights"
    )
    quantization: Literal["8bit", "4bit"] | None = Field(
        default=None, description="weights in 8 or 4 bits, by bitsandbytes; the checkpoint is an unquantised one"
    )

    @model_validator(mode="after")
    def _one_kind_of_weights(self) -> ModelSection:
        if self.quantization is None:
            return self
        if self.adapter is not None:
            what = f"found {self.quantization} beside an adapter, which would be merged into rounded weights"
            raise InvalidValue(what, "leave one of the two out", ("quantization",))
        if self.name.lower().endswith(".gguf") or self.packaged:
            holder = f"the packaged model's file ({self.packaged.quantization})" if self.packaged else "a GGUF file"
            what = f"found {self.quantization}, and {holder} has its own"
            raise InvalidValue(what, "leave it out", ("quantization",))
        return self

    @property
    def packaged(self) -> PackagedModel | None:
        """Its row, where the name is a packaged model's."""
        return PACKAGED.get(self.name)

    @property
    def changes(self) -> dict[str, str]:
        """What is asked for beyond the model's own weights, for the manifest."""
        changes = {"adapter": self.adapter, "quantization": self.quantization}
        return {field: value for field, value in changes.items() if value is not None}

    @property
    def label(self) -> str:
        """What tells this model from the others of a run, beside its revision."""
        return ", ".join([self.name, *(f"{field} {value}" for field, value in self.changes.items())])


class TasksSection(Section):
    """A family and which of its tasks; a family's own options (``bits``, ``files``) are checked by it."""

    model_config = ConfigDict(extra="allow")

    family: str = Field(default="bitwise", description="bitwise, pos, pairs; `patchboard ls` lists all")
    include_null: bool = Field(default=True, description="fit a Null mean and give Null a label in CD")
    only: Annotated[list[str], Field(min_length=1), Differing] | None = Field(
        default=None, description="these tasks of the family only"
    )


class DecodabilitySection(Section):
    k: Count = Field(default=10, description="neighbours that vote")
    prompts: Count = Field(default=100, description="prompts a label")
    shots: Annotated[list[Shots], Field(min_length=1), Differing] = [0, 1, 2, 4]
    twin: bool = Field(
        default=False,
        description="CD of an untrained twin beside it: the same configuration, random weights, the same prompts",
    )
    shuffled: Annotated[int, Field(ge=0)] = Field(
        default=0, description="permutations of the labels over the prompts, whose CD is what chance gives; 0: none"
    )
    probes: Annotated[list[str], Differing] = Field(
        default=[], description="[probes](#probes) of the same states, cross-validated over queries, beside CD"
    )

    @model_serializer(mode="wrap")
    def _without_what_is_not_wanted(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is left out is not told: specs of before it could be asked for keep their digests, and their runs."""
        later = ("twin", "shuffled", "probes")
        return {name: value for name, value in dump(self).items() if value or name not in later}


class StatisticsSection(Section):
    bootstrap: Annotated[int, Field(ge=100)] = Field(default=2000, description="resamples of the queries")
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: Seed = 0


def _version(value: Any) -> Any:
    # Literal[1] alone would take true and 1.0 for 1
    if value != 1 or type(value) is not int:
        raise InvalidValue(f"found {shown(value)}, this package reads version 1", "write version: 1")
    return value


class Spec(Section):
    """One point of science: every leaf a plain value (sweeps are expanded before)."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "run"
    plugins: list[str] = Field(
        default=[], description="Python files that register ops, metrics, tasks and more; relative to this file"
    )
    model: ModelSection = ModelSection()
    tasks: TasksSection = TasksSection()
    prompts: PromptsSection = PromptsSection()
    interventions: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], InterventionSection] = {}
    controls: list[Control] = []
    metrics: Annotated[list[str], Field(min_length=1)] = ["accuracy", "logprob", "kl"]
    outcomes: OutcomesSection | None = Field(
        default=None, description="what is kept of single queries beside each metric's value; null: nothing"
    )
    screen: ScreenSection | None = Field(
        default=None, description="estimates many cells by gradients first, see [screening](#screening); null: runs all"
    )
    decodability: DecodabilitySection | None = DecodabilitySection()
    generate: GenerateSection | None = Field(
        default=None, description="texts that the model writes under edits, see [texts](#texts); null: none"
    )
    guardedness: GuardednessSection | None = Field(
        default=None, description="what fresh probes find after `ablate`, see [probes](probes.md); null: not asked"
    )
    statistics: StatisticsSection = StatisticsSection()

    @model_serializer(mode="wrap")
    def _without_what_is_none(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Told only where they are asked for: specs of before they could be keep their digests, and their runs."""
        nothing = OutcomesSection().model_dump()
        later = (("screen", None), ("generate", None), ("guardedness", None), ("outcomes", None), ("outcomes", nothing))
        return {name: value for name, value in dump(self).items() if (name, value) not in later}

    @property
    def top_tokens(self) -> int:
        """How many of a distribution's likeliest tokens are kept."""
        return (self.outcomes and self.outcomes.top_tokens) or 0
