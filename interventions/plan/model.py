"""The plan: frozen data that says everything about a run before a weight is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from patchboard.plan.cells import Cell, Edit
from patchboard.plan.facts import ModelFacts
from patchboard.spec.generate import GenerateSection
from patchboard.spec.guardedness import GuardednessSection
from patchboard.spec.screen import ScreenSection
from patchboard.spec.sections import DecodabilitySection, ModelSection
from patchboard.tasks.prompt import Prompt
from patchboard.vectors.base import Place, Recipe

Role = Literal["evaluate", "unrelated"]
"""Prompts of the task, or texts of no task (control ``unrelated``)."""
if TYPE_CHECKING:
    from patchboard.plan.learning import Training

EngineKind = Literal["wavefront", "rows"]
"""How copies are computed: see plan.packing."""


@dataclass(frozen=True)
class Counterfactual:
    """One counterfactual computation: edits, and whose answer is teacher-forced (own: "").

    against: the source with whose run its distribution is compared, in place of the clean one.
    answer: which of its right answers. What is scored on answers 1, 2, … is taken into answer 0's copy
    (``measure.scored_group``).
    """

    edits: tuple[Edit, ...] = ()
    target: str = ""
    answer: int = 0
    against: str = ""


@dataclass(frozen=True)
class ScoredCell:
    """A cell, and the copies that hold its values: indices into ``Group.copies``."""

    cell: Cell
    patched: int
    converted: int = -1
    clean_converted: int = -1
    against: int = -1  # as ``patched``, compared with the source's run; ``clean_against``: the clean run so
    clean_against: int = -1
    far_end: int = -1
    """The clean run made that which lies at the other end of a normalised metric: the source's, or the uncorrupted."""

    @property
    def copies(self) -> dict[str, int]:
        """Field -> the copy that it names."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "cell"}


@dataclass(frozen=True)
class Group:
    """Evaluated prompts of one task, with every copy that any cell needs of them.

    copies[0] is the clean run; copies[noise_copy] patches a mid-layer state with itself (noise floor).
    """

    id: str
    task: str
    shots: int
    seed: int
    prompts: tuple[Prompt, ...]
    foils: tuple[int, ...]  # first token of a wrong answer, -1 where there is none
    copies: tuple[Counterfactual, ...]
    noise_copy: int
    uses: tuple[ScoredCell, ...]
    metrics: tuple[str, ...]
    prefix: int = 0
    """First tokens that all prompts share and that are computed once for many of them; 0: none are."""
    donors: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)
    """Source of states -> for each prompt the one whose states it is given (op resample)."""
    requested: int = 0
    """Queries that the spec asks for; there are fewer prompts where the pool is smaller."""
    role: Role = "evaluate"
    """Whose prompts they are."""
    corrupted: bool = False
    """Whether its prompts are corrupted ones: the run without an edit is then 0 of a normalised metric, else 1."""
    top_tokens: int = 0
    """How many of the likeliest next tokens are kept of what the page shows; 0: none."""
    every: int = 1
    """The page shows the queries whose number this divides."""


@dataclass(frozen=True)
class Fit:
    """Prompts from which vectors are fitted, and where their states are read."""

    id: str
    prompts: Mapping[str, tuple[Prompt, ...]]  # task -> prompts
    labels: tuple[str, ...]
    shots: int
    layers: tuple[int, ...]
    places: tuple[Place, ...]
    keep_states: bool  # for kinds that need more of them than their means
    answers: Literal["own", "shuffled"] = "own"
    """Whose outputs its demonstrations carry: their own, or each another one's."""
    judged_by: str = ""
    """Of a fit with shuffled answers, where a vector is of ``only: correct``: id of the fit of the same rows with their
    own, by whose right answers it goes."""


@dataclass(frozen=True)
class Decoding:
    """Prompts whose states before each answer give CD for every layer and number of shots."""

    id: str
    section: DecodabilitySection
    prompts: Mapping[str, tuple[Prompt, ...]]  # label -> prompts of max(shots) demonstrations
    swept: tuple[tuple[tuple[str, Any], ...], ...]  # one entry for each point that shares it
    seed: int = 0
    """Of the prompts; also of the untrained twin's weights and of the labels' permutations."""


@dataclass(frozen=True)
class GuardedCell:
    """A cell that erases something: its edits of each label's prompts."""

    cell: Cell
    edits: Mapping[str, tuple[Edit, ...]]


@dataclass(frozen=True)
class Guarding:
    """Prompts on whose states fresh probes are fitted, unedited and after each cell that erases something.

    fit: of half ``fit`` the id of the fit whose prompts they are; only: which of these the subspaces were fitted on.
    """

    id: str
    section: GuardednessSection
    half: Literal["fit", "held_out"]
    prompts: Mapping[str, tuple[Prompt, ...]]  # label -> prompts
    shots: int
    seed: int
    cells: tuple[GuardedCell, ...] = ()
    fit: str = ""
    only: Literal["correct", "all"] = "all"


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
    swept: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Id of a group, fit or decoding -> the swept settings whose prompts it holds, as text."""
    frames: tuple[Mapping[str, Any], ...] = ()
    """What stands in front of the prompts and what was left out, for the manifest."""
    trainings: tuple[Training, ...] = ()
    """By which vectors are learned through the model, before anything else of it is run."""
    screen: ScreenSection | None = None
    """By which cells are estimated before some of them are run; None: all are run."""
    generate: GenerateSection | None = None
    """Texts that are written behind evaluated prompts; None: none are."""
    guardings: tuple[Guarding, ...] = ()

    @property
    def has_noise(self) -> bool:
        """Whether some edit adds noise."""
        return any(edit.seed >= 0 for group in self.groups for copy in group.copies for edit in copy.edits)


@dataclass(frozen=True)
class Pack:
    """One forward pass: some prompts of a group times some of its copies."""

    group: str
    prompts: tuple[int, ...]
    copies: tuple[int, ...]
    way: EngineKind
    together: int = 1
    """Prompts that share a sequence, and in it the tokens that all of them begin with."""

    @property
    def id(self) -> str:
        """Names all that it holds, so that packs of another budget are not taken for it."""
        prompts, copies = (_named(_runs(numbers)) for numbers in (self.prompts, self.copies))
        return f"{self.group}-{self.way[0]}-p{prompts}-c{copies}"


def _named(runs: list[tuple[int, int]]) -> str:
    name = "-".join(f"{a}" if a == b else f"{a}.{b}" for a, b in runs)
    return name if len(name) <= 40 else hashlib.sha256(name.encode()).hexdigest()[:16]


def _runs(numbers: tuple[int, ...]) -> list[tuple[int, int]]:
    """Consecutive numbers as (first, last)."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
