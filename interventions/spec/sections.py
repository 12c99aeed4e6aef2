"""The spec's sections as frozen, strict data: what a YAML file may say, and nothing about how to run it.

Names that other modules register (ops, metrics, families, controls) are plain strings here;
``interventions.plan.check`` holds them against the registries, so that this package imports none of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Shots = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Unknown keys are refused, nothing is coerced (``true`` is no 1), nothing changes after."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelSection(Section):
    name: str = Field(default="embedded", description="'embedded', a Hub name, or a folder in the Hub's format")
    revision: str = Field(default="main", description="branch, tag or commit of a Hub model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: float32 for the embedded model and on CPU, else the checkpoint's own"
    )


class TasksSection(Section):
    """A family and which of its tasks; a family's own options (``bits``, ``files``) are checked by it."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    family: str = Field(default="bitwise", description="bitwise, pos, pairs; `patchboard ls` lists all")
    include_null: bool = Field(default=True, description="fit a Null mean and give Null a label in CD")
    only: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="these tasks of the family only"
    )


class TemplateSection(Section):
    """Text of a prompt: prefix, then for each demonstration input, output, separator; then the query's input."""

    prefix: str = Field(default="", description="before everything; may hold {task}, which states the task")
    input: str = Field(default="{input} ->", description="must hold {input}")
    output: str = Field(default=" {output}", description="must hold {output}")
    separator: str = Field(default="\n", description="after every demonstration")

    @model_validator(mode="after")
    def _holds_its_field(self) -> TemplateSection:
        for field in ("input", "output"):
            if getattr(self, field).count("{" + field + "}") != 1:
                raise ValueError(f"template.{field} must hold {{{field}}} exactly once")
        return self


class PromptsSection(Section):
    shots: Shots = Field(default=4, description="demonstrations before the query")
    queries: Count = Field(default=100, description="evaluated prompts a task")
    seed: Annotated[int, Field(ge=0)] = 0
    template: TemplateSection = TemplateSection()


class VectorSection(Section):
    """What an edit writes or removes, fitted on prompts that share no row with the evaluated ones."""

    mean: str | None = Field(default=None, description="same_task, other_task, null_task, all_tasks, or a task's name")
    difference: Annotated[list[str], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="[a, b]: mean of a minus mean of b, each as under `mean`"
    )
    subspace: Literal["tasks"] | None = Field(
        default=None, description="tasks: the space in which the tasks' states differ"
    )
    method: Literal["pca", "leace"] = Field(default="pca", description="of a subspace: PCA of the task means, or LEACE")
    rank: Count | None = Field(default=None, description="of a subspace; default: number of labels - 1")
    shots: Shots = Field(default=8, description="demonstrations of a fit prompt")
    prompts: Count = Field(default=100, description="fit prompts a task")
    only: Literal["correct", "all"] = Field(default="correct", description="fit prompts to use; Null always uses all")

    @property
    def kind(self) -> str:
        return next(kind for kind in ("mean", "difference", "subspace") if getattr(self, kind) is not None)

    @model_validator(mode="after")
    def _one_kind(self) -> VectorSection:
        given = [kind for kind in ("mean", "difference", "subspace") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of mean, difference, subspace; has {', '.join(given) or 'none'}")
        if self.subspace is None and self.rank is not None:
            raise ValueError("rank is of a subspace only")
        return self


class Together(Section):
    """``{together: all}``: all these layers edited in one cell, not one cell a layer."""

    together: str | int | list[int]


Layers = str | int | list[int] | Together
Position = str | int | list[str | int]
Site = Literal["resid_pre", "resid_post", "attn_out", "mlp_out"]


class EditSection(Section):
    """One edit. ``layers`` is an axis in an intervention of one edit, a set in one of several."""

    op: str
    vector: VectorSection | None = None
    layers: Layers = "all"
    site: Site = "resid_post"
    position: Position = "last"
    strength: float = Field(default=1.0, description="1 is the whole edit; see each op's formula")


class InterventionSection(Section):
    """Either the fields of one edit, or ``edits``, a list of them made in one cell."""

    op: str | None = None
    vector: VectorSection | None = None
    layers: Layers = "all"
    site: Site = "resid_post"
    position: Position = "last"
    strength: float = 1.0
    edits: Annotated[list[EditSection], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _op_or_edits(self) -> InterventionSection:
        if (self.op is None) == (self.edits is None):
            raise ValueError("needs either op or edits")
        if self.edits is not None and self.model_fields_set - {"edits"}:
            extra = ", ".join(sorted(self.model_fields_set - {"edits"}))
            raise ValueError(f"{extra}: move into each of edits")
        return self

    @property
    def parts(self) -> tuple[EditSection, ...]:
        """The edits, one or several."""
        if self.edits is not None:
            return tuple(self.edits)
        assert self.op is not None
        return (
            EditSection(
                op=self.op, vector=self.vector, layers=self.layers, site=self.site,
                position=self.position, strength=self.strength,
            ),
        )  # fmt: skip

    @property
    def layers_are_axis(self) -> bool:
        return self.edits is None and not isinstance(self.layers, Together)


class ControlSection(Section):
    name: str
    draws: Count = Field(default=1, description="of random and random_subspace: independent draws")


def _control(value: Any) -> Any:
    """``random`` or ``{random: {draws: 3}}`` -> a ControlSection's fields."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and len(value) == 1 and "name" not in value:
        (name, options), *_ = value.items()
        return {"name": name, **(options or {})}
    return value


class DecodabilitySection(Section):
    k: Count = Field(default=10, description="neighbours that vote")
    prompts: Count = Field(default=100, description="prompts a label")
    shots: Annotated[list[Shots], Field(min_length=1)] = [0, 1, 2, 4]


class StatisticsSection(Section):
    bootstrap: Annotated[int, Field(ge=100)] = Field(default=2000, description="resamples of the queries")
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: Annotated[int, Field(ge=0)] = 0


class Spec(Section):
    """One point of science: every leaf a plain value (sweeps are expanded before)."""

    version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "run"
    model: ModelSection = ModelSection()
    tasks: TasksSection = TasksSection()
    prompts: PromptsSection = PromptsSection()
    interventions: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], InterventionSection] = {}
    controls: list[Annotated[ControlSection, BeforeValidator(_control)]] = []
    metrics: Annotated[list[str], Field(min_length=1)] = ["accuracy", "logprob", "kl"]
    decodability: DecodabilitySection | None = DecodabilitySection()
    statistics: StatisticsSection = StatisticsSection()
