"""What a kind of vector is: what its field in the spec holds, and how it is made of fit prompts' states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, cast

from patchboard.errors import SpecError
from patchboard.registry import Registry
from patchboard.spec.vectors import KINDS, Takes, VectorSection
from patchboard.tasks.base import NULL
from patchboard.vectors.base import Recipe

if TYPE_CHECKING:
    from patchboard.vectors.base import Operand
    from patchboard.vectors.statistics import PlaceStatistics

Build = Callable[..., Any]
Makes = Literal["vector", "subspace", "features"]
Learn = Callable[..., Any]
"""As ``vectors.learned.rotation``."""


class Fitter:
    """A kind of vector. Its docstring is its entry in docs/spec.md.

    ``build`` may travel to a server as source: it names torch, tensors and plain data.
    """

    takes: ClassVar[Takes] = "task"
    makes: ClassVar[Makes] = "vector"
    """For which ops it is an operand; its random control keeps a vector's norm, a subspace's rank, how often features
    are active."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Further fields beside its own in ``vector:``, with their defaults; ``recipe.options`` has their values."""
    reads_heads: ClassVar[bool] = False
    """Whether it is made of the outputs of the heads that ``heads`` names, wherever the edit is."""
    phrase: ClassVar[str] = ""
    """What it is, as reports say it, of {first}, {second} (the sources), {rank}, {method}, {heads}, {key} and
    {features}; "": its name."""

    @staticmethod
    def needs_states(vector: VectorSection) -> bool:
        """Whether it takes the states themselves (``statistics.labelled``), beside their means."""
        return False

    @classmethod
    def made(cls, vector: VectorSection, tasks: Sequence[str], where: str) -> str:
        """``makes``; of a file what is in it. Raises SpecError where it cannot be read. where: of the edit."""
        return cls.makes

    @classmethod
    def check(cls, vector: VectorSection, site: str, tasks: Sequence[str], where: str) -> None:
        """Raises SpecError where it cannot be meant at this site, with these tasks. where: of the edit."""

    @staticmethod
    def build(recipe: Recipe, statistics: PlaceStatistics) -> Operand:
        """The vector [d_model] or subspace, float64, of one recipe and the statistics of its place.

        recipe: ``plus`` and ``minus`` are the tasks of its first and second source (of ``tasks``, ``plus`` all labels).
        statistics.means(tasks, recipe.layer, recipe.only) is [task, d_model].
        """
        raise NotImplementedError

    @classmethod
    def builder(cls) -> Build:
        """What makes it; ours import torch here, so that a spec can be validated without."""
        return cls.build

    @classmethod
    def joint_builder(cls) -> Build | None:
        """In place of ``builder``, of a kind that needs the model's output projections: makes key -> vector of all
        recipes of the kind at once, of (recipes, statistics by fit and place, ``function.Project``)."""
        return None

    @classmethod
    def host_builder(cls) -> Build | None:
        """``joint_builder`` of what a host has: it travels there as source."""
        return cls.joint_builder()


class Separating(Fitter):
    """A kind that separates the states of its two sources."""

    takes: ClassVar[Takes] = "pair"

    @staticmethod
    def needs_states(vector: VectorSection) -> bool:
        return True

    @classmethod
    def check(cls, vector: VectorSection, site: str, tasks: Sequence[str], where: str) -> None:
        real = [task for task in tasks if task != NULL]
        if len(real) < 2 and not {NULL, "null_task"} & set(vector.sources):
            what = f"{vector.kind} separates two sets of states, and there is one task"
            at = f"{where}.vector.{'select' if vector.select else vector.kind}"
            raise SpecError(at, what, "add tasks, or write null_task for one of the two")


class Learned(Fitter):
    """A kind that is learned through the model, by gradients, before any cell is run.

    What of it is free, and what it is learned for, stands in ``vectors.learned`` and ``plan.learning``; its recipes
    are then made of the tensors that were learned (``Recipe.given``).
    """

    taught_by: ClassVar[str] = "add"
    """The op by which it is put in while it is learned."""

    @classmethod
    def learner(cls) -> Learn:
        """Makes what is free in a vector, of (recipe, mean state of its fit prompts, generator)."""
        raise NotImplementedError

    @classmethod
    def joint_builder(cls) -> Build:
        from patchboard.vectors.files.given import given_operands

        return given_operands


FITTERS = cast("Registry[type[Fitter]]", KINDS)


def learned_kind(kind: str) -> type[Learned] | None:
    """The kind, where its vectors are learned."""
    fitter = FITTERS.get(kind, "vector")
    return fitter if issubclass(fitter, Learned) else None


class Builders(NamedTuple):
    """Functions that make vectors, by kind."""

    of_one: dict[str, Build]
    of_all: dict[str, Build]


def builders(kinds: Iterable[str], on_host: bool = False) -> Builders:
    """What makes vectors of these kinds, here or on a host."""
    builders_of = Builders({}, {})
    for kind in dict.fromkeys(kinds):
        fitter = FITTERS.get(kind, "vector")
        joint = fitter.host_builder() if on_host else fitter.joint_builder()
        if joint is None:
            builders_of.of_one[kind] = fitter.builder()
        else:
            builders_of.of_all[kind] = joint
    return builders_of
