"""The plan: frozen data that says everything about a run before a weight is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interventions.plan.cells import Cell, Edit
from interventions.spec.sections import DecodabilitySection, ModelSection
from interventions.vectors.base import Place, Recipe
from tasks.prompts import Prompt


@dataclass(frozen=True)
class ModelFacts:
    """What planning needs of a model: read from its configuration, not from weights."""

    family: str
    layers: int
    width: int
    vocab: int


@dataclass(frozen=True)
class Copy:
    """One counterfactual computation: edits, and whose answer is teacher-forced (own: "")."""

    edits: tuple[Edit, ...] = ()
    target: str = ""


@dataclass(frozen=True)
class Use:
    """A cell, and the copies that hold its values: indices into ``Group.copies``."""

    cell: Cell
    patched: int
    converted: int = -1
    clean_converted: int = -1


@dataclass(frozen=True)
class Group:
    """Evaluated prompts of one task, with every copy that any cell needs of them.

    copies[0] is the clean run; copies[probe] patches a mid-layer state with itself (noise floor).
    """

    id: str
    task: str
    shots: int
    seed: int
    prompts: tuple[Prompt, ...]
    foils: tuple[int, ...]  # first token of a wrong answer, -1 where there is none
    copies: tuple[Copy, ...]
    probe: int
    uses: tuple[Use, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Fit:
    """Prompts from which vectors are fitted, and where their states are read."""

    id: str
    prompts: Mapping[str, tuple[Prompt, ...]]  # task -> prompts
    labels: tuple[str, ...]
    shots: int
    layers: tuple[int, ...]
    places: tuple[Place, ...]
    leace: tuple[str, ...]  # which of "correct", "all" a LEACE recipe asks for


@dataclass(frozen=True)
class Decoding:
    """Prompts whose states before each answer give CD for every layer and number of shots."""

    id: str
    section: DecodabilitySection
    prompts: Mapping[str, tuple[Prompt, ...]]  # label -> prompts of max(shots) demonstrations
    swept: tuple[tuple[tuple[str, Any], ...], ...]  # one entry for each point that shares it


@dataclass(frozen=True)
class ModelPlan:
    """All that one model computes."""

    section: ModelSection
    facts: ModelFacts
    groups: tuple[Group, ...]
    fits: tuple[Fit, ...]
    recipes: Mapping[str, Recipe]
    decodings: tuple[Decoding, ...]
    tasks: Mapping[str, Any]
    """What the families tell of themselves, for the manifest."""


@dataclass(frozen=True)
class Pack:
    """One forward pass: some prompts of a group times some of its copies."""

    group: str
    prompts: range
    copies: range

    @property
    def id(self) -> str:
        return f"{self.group}-q{self.prompts.start}-c{self.copies.start}"
