"""What an experiment on knowledge hijack says: the language, the models, their training, the prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from patchboard.experiment.settings import ExperimentSettings
from patchboard.spec.kinds import FileKind
from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Count, Differing, Section, Seed, Shots
from patchboard.spec.sections import StatisticsSection

Share = Annotated[float, Field(gt=0, lt=1)]
Length = Annotated[int, Field(ge=8)]
Distance = Annotated[int, Field(ge=2)]
Positions = Literal["absolute", "rotary", "relative"]


@dataclass(frozen=True)
class Shape:
    """All that decides a model but its random numbers (``model.py``).

    longest: tokens of the longest sequence, for tables of positions.
    rotary_layers: counted from 0.
    """

    vocab: int
    width: int
    positions: Positions
    longest: int
    query: Literal["identity", "learned"]
    feed_forward: Literal["none", "linear", "relu"]
    norm: bool
    frozen: tuple[str, ...]
    rotary_base: float
    rotary_layers: tuple[int, ...]


class LanguageSection(Section):
    """The bigram table and its triggers: ``tasks/bigram.py``."""

    vocab: Annotated[int, Field(ge=4)] = Field(default=65, description="tokens")
    common: Annotated[int, Field(ge=2)] = Field(default=20, description="frequent tokens, among which triggers are")
    strengths: Annotated[list[Share], Field(min_length=1), Differing] = Field(
        default=[0.1, 0.3, 0.5, 0.7, 0.9], description="P(usual successor | token), dealt out evenly to the tokens"
    )
    exponent: Annotated[float, Field(ge=0)] = Field(default=1.0, description="how fast popularity falls off")
    triggers: Count = Field(default=5, description="triggers of a sequence, each with an output of that sequence")
    seed: Seed = 0


class ModelSection(Section):
    """Two layers of one head each: ``experiments/hijack/model.py``."""

    positions: Annotated[list[Positions], Field(min_length=1), Differing] = Field(
        default=["absolute", "rotary"], description="a model is trained for each"
    )
    width: Annotated[int, Field(ge=4, multiple_of=2)] = 128
    query: Literal["identity", "learned"] = Field(
        default="learned", description="identity: keys alone are learned, as in Bietti et al."
    )
    feed_forward: Literal["none", "linear", "relu"] = Field(
        default="linear", description="after layer 2: where a bigram can be stored; none leaves W_E to W_U"
    )
    norm: bool = False
    frozen: Annotated[list[Literal["embeddings", "remap"]], Differing] = Field(
        default=["remap"],
        description="left as drawn: W_E, W_U and position vectors; layer 1's value-output matrix",
    )
    rotary_base: Annotated[float, Field(gt=1)] = 10000.0
    rotary_layers: Annotated[list[Literal[1, 2]], Field(min_length=1), Differing] = Field(
        default=[1, 2], description="layers whose queries and keys turn, counted from 1 as in the paper"
    )


class TrainingSection(Section):
    length: Length = Field(default=64, description="tokens of a training sequence")
    batch: Count = 128
    steps: Count = 600
    learning_rate: Annotated[float, Field(gt=0)] = Field(default=0.02, description="AdamW's highest; then a cosine")
    loss: Literal["all", "repeats"] = Field(
        default="all", description="repeats: where a trigger stands for the second time or later, and nothing else"
    )
    seeds: Annotated[list[Seed], Field(min_length=1), Differing] = Field(default=[0], description="a model for each")
    checkpoint: Count = Field(default=50, description="steps between checkpoints, which hold the curve's points too")


class PromptsSection(Section):
    """Prompts that end with a token that was followed by another one before: ``prompts.py``."""

    each: Annotated[int, Field(ge=2)] = Field(default=500, description="prompts of each kind and setting")
    counts: Annotated[list[Shots], Field(min_length=1), Differing] = [0, 1, 2, 3, 4, 6, 8]
    distances: Annotated[list[Distance], Field(min_length=1), Differing] = [2, 4, 8, 16, 24, 32, 48, 60]
    lengths: Annotated[list[Length], Field(min_length=1), Differing] = [32, 48, 64, 96, 128, 192, 256]
    shown: Count = Field(default=4, description="times that a prompt of another length shows the pair")
    seed: Seed = 0


class HijackSettings(ExperimentSettings):
    kind: ClassVar[FileKind] = "hijack"

    version: Literal[1] = 1
    experiment: Literal["hijack"]
    name: str = Field(default="knowledge-hijack", pattern=r"^[A-Za-z0-9][\w.\-]*$")
    language: LanguageSection = LanguageSection()
    model: ModelSection = ModelSection()
    training: TrainingSection = TrainingSection()
    prompts: PromptsSection = PromptsSection()
    statistics: StatisticsSection = StatisticsSection()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        language, prompts, length = self.language, self.prompts, self.training.length
        if not 2 <= language.common <= language.vocab - 2:
            what = f"found {language.common}, expected 2 to {language.vocab - 2} of {language.vocab} tokens"
            raise InvalidValue(what, "write fewer", ("language", "common"))
        if language.triggers >= language.common:
            what = f"found {language.triggers} of {language.common} common tokens, which leaves none with its bigram"
            raise InvalidValue(what, "write fewer", ("language", "triggers"))
        if max(prompts.distances) > length - 2:
            what = f"found {max(prompts.distances)}, a prompt of {length} tokens has room for {length - 2}"
            raise InvalidValue(what, "write less", ("prompts", "distances"))
        for field, most, room in (
            ("counts", max(prompts.counts), length),
            ("shown", prompts.shown, min(min(prompts.lengths), self.near)),
        ):
            if 2 * most > room - 2:
                what = f"found {most}, {room} tokens have room for {(room - 2) // 2} pairs"
                raise InvalidValue(what, "write fewer", ("prompts", field))
        return self

    @property
    def near(self) -> int:
        """Tokens at a prompt's end in which the pairs of a ``near`` prompt stand: half of a training sequence."""
        return self.training.length // 2

    @property
    def longest(self) -> int:
        return max(self.training.length, *self.prompts.lengths)

    @property
    def models(self) -> list[tuple[Positions, int]]:
        """Positions and seed of each model that is trained."""
        return [(positions, seed) for positions in self.model.positions for seed in self.training.seeds]

    def shape(self, positions: Positions) -> Shape:
        model = self.model
        return Shape(
            self.language.vocab, model.width, positions, self.longest, model.query, model.feed_forward, model.norm,
            tuple(model.frozen), model.rotary_base, tuple(layer - 1 for layer in model.rotary_layers),
        )  # fmt: skip
