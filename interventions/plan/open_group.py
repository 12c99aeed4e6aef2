"""A group of evaluated prompts while cells are added to it: their copies, the prompts that lend them states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from patchboard.errors import SpecError
from patchboard.metrics import METRICS, Metric
from patchboard.metrics.base import against_source, is_normalised
from patchboard.plan.cells import OWN_STATE, SAME, STATE, Cell, Edit, position_label, source_of, with_lent
from patchboard.plan.model import Counterfactual, Group, Role, ScoredCell
from patchboard.plan.suffix import clean_tokens, positions_of
from patchboard.plan.unit import read_positions
from patchboard.spec.axes import Point
from patchboard.spec.sites import PATTERN
from patchboard.tasks.prompt import Prompt
from patchboard.tasks.sets import BASE


@dataclass
class OpenGroup:
    """A group while points still add cells to it."""

    id: str
    prompts: tuple[Prompt, ...]
    point: Point
    task: str
    role: Role = "evaluate"
    copies: dict[Counterfactual, int] = field(default_factory=dict)
    uses: list[ScoredCell] = field(default_factory=list)
    donors: dict[str, tuple[Prompt, ...]] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    """Target -> the most right answers that any prompt has under it."""
    aligned: set[tuple[Any, ...]] = field(default_factory=set)
    """Sources and positions that are known to fit: layers, heads and sites change nothing about them."""

    def copy(self, copy: Counterfactual) -> int:
        """The copy's number. Where a prompt has several right answers, there is a copy for each."""
        number = self.copies.setdefault(copy, len(self.copies))
        if copy.target not in self.answers:
            self.answers[copy.target] = max((len(p.right(copy.target)) for p in self.prompts), default=1)
        for answer in range(1, self.answers[copy.target]):
            self.copies.setdefault(replace(copy, answer=answer), len(self.copies))
        return number

    def give(self, source: str, evaluated: Mapping[str, tuple[Prompt, ...]]) -> None:
        """Prompts whose states edits of this source take: a task's, in order, the next of this task, or the source of
        that name that each prompt has."""
        if source in self.donors:
            return
        self.donors[source] = given_prompts(source, self.task, self.prompts, evaluated)

    def use(self, cell: Cell, last_block: int) -> None:
        converted, clean, goal = -1, -1, cell.converts_to
        if any(goal in p.sources for p in self.prompts) and not any(p.differs(goal) for p in self.prompts):
            cell = replace(cell, converts_to="")  # the source's answers are the rows' own
        if cell.converts_to:
            converted = self.copy(Counterfactual(cell.edits, cell.converts_to))
            clean = self.copy(Counterfactual((), cell.converts_to))
        scored = ScoredCell(cell, self.copy(Counterfactual(cell.edits)), converted, clean)
        if cell.source and self.asks(against_source):
            against = (self.copy(Counterfactual(edits, against=cell.source)) for edits in (cell.edits, ()))
            scored = replace(scored, **dict(zip(("against", "clean_against"), against, strict=True)))
        if far_end := self.far_end(cell):
            whole = Edit("patch", "resid_post", last_block, '"last"', 1.0, STATE + far_end)
            scored = replace(scored, far_end=self.copy(Counterfactual((whole,))))
        self.uses.append(scored)

    def asks(self, kind: Callable[[type[Metric]], bool]) -> bool:
        """Whether a metric of that kind is measured."""
        return any(kind(METRICS.get(name, "metrics")) for name in self.point.spec.metrics)

    def far_end(self, cell: Cell) -> str:
        """The source whose run lies at the other end of a normalised metric; "" where there is none, or no such
        metric. Its state at the last block, at the token before the answer, is its run."""
        if self.role != "evaluate" or not self.asks(is_normalised):
            return ""
        return BASE if self.point.spec.prompts.corrupted else cell.source

    def close(self) -> Group:
        """The group, to which nothing is added any more."""
        spec = self.point.spec
        return Group(
            id=self.id,
            task=self.task,
            role=self.role,
            shots=spec.prompts.shots,
            seed=spec.prompts.seed,
            prompts=self.prompts,
            foils=foils_of(self.prompts),
            copies=tuple(self.copies),
            noise_copy=1,
            uses=tuple(self.uses),
            metrics=tuple(spec.metrics),
            prefix=_common_prefix(self.prompts) if self._shares_demonstrations else 0,
            donors=self.donors,
            requested=spec.prompts.queries if self.role == "evaluate" else len(self.prompts),
            corrupted=self.role == "evaluate" and spec.prompts.corrupted is not None,
        )

    @property
    def _shares_demonstrations(self) -> bool:
        return self.role == "evaluate" and self.point.spec.prompts.demonstrations == "shared"


def given_prompts(
    source: str, task: str, prompts: Sequence[Prompt], of_tasks: Mapping[str, Sequence[Prompt]]
) -> tuple[Prompt, ...]:
    """For each of a task's prompts the one whose states it takes of that source; one that cannot be run where its row
    has none."""
    if source in of_tasks or source == SAME:
        donors = (*prompts[1:], prompts[0]) if source == SAME else of_tasks[source]
        return tuple(donors[i % len(donors)] for i in range(len(prompts)))
    lacking = Prompt(task, "", "", excluded=f"the row has no source {source}")
    return tuple(prompt.sources.get(source, lacking) for prompt in prompts)


def opened(
    group_id: str, point: Point, task: str, prompts: tuple[Prompt, ...], layers: int, role: Role = "evaluate"
) -> OpenGroup:
    """A group with its clean run, and the copy that tells the noise floor. layers: of the model."""
    group = OpenGroup(group_id, prompts, point, task, role)
    noise_copy = Counterfactual((Edit("patch", "resid_post", layers // 2, '"last"', 1.0, OWN_STATE),))
    group.copies = {Counterfactual(): 0, noise_copy: 1}
    for copy in (Counterfactual(), noise_copy):  # with those of their further answers
        group.copy(copy)
    return group


def check_alignment(cell: Cell, group: OpenGroup) -> None:
    """Raises SpecError where an edit has another number of tokens than the source of the rows that it takes them from,
    or takes attention weights of a token that has more or fewer before it.

    Prompts of a task are another matter: those that do not fit give no outcome.
    """
    for edit in with_lent(cell.edits):
        source = source_of(edit)
        places = source, edit.position, edit.read and (edit.read.position, edit.read.filled), edit.site == PATTERN
        if not source or places in group.aligned or not any(source in prompt.sources for prompt in group.prompts):
            continue
        group.aligned.add(places)
        unequal, elsewhere = [], []
        for i, (prompt, donor) in enumerate(zip(group.prompts, group.donors[source], strict=True)):
            if not prompt.excluded and not donor.excluded:
                edited = positions_of(prompt, edit.position, len(clean_tokens(prompt)))
                read = read_positions(donor, edit, len(edited))
                unequal += [(i, len(edited), len(read))] if len(edited) != len(read) else []
                elsewhere += [(i, edited, read)] if edit.site == PATTERN and edited != read else []
        where = f"interventions.{cell.intervention}.source"
        if elsewhere:
            i, edited, read = elsewhere[0]
            what = (
                f"position {position_label(edit.position)} is {_places(edited)} of query {i} and {_places(read)} of its"
                f" source {source} (so in {len(elsewhere)} of {len(group.prompts)} queries), and attention weights"
                " go by places"
            )
            raise SpecError(where, what, "use a source of as many tokens up to there, or another site")
        if unequal:
            i, edited, read = unequal[0]
            at = position_label(edit.position)
            what = (
                f"position {at} has {edited} tokens in query {i} and {read} in its source {source}"
                f" (so do {len(unequal)} of {len(group.prompts)} queries)"
            )
            remedy = f"write source: {{name: {source}, align: last}}, or first, or all"
            raise SpecError(where, what, remedy)


def _places(tokens: Sequence[int]) -> str:
    return f"token{'s' * (len(tokens) != 1)} {', '.join(map(str, tokens)) or 'none'}"


def foils_of(prompts: tuple[Prompt, ...]) -> tuple[int, ...]:
    """A wrong answer's first token for each prompt: one that its row brings, else the answer of another task to the
    same query, or failing that of the nearest other query; -1 where all first tokens agree."""
    foils = []
    for i, prompt in enumerate(prompts):
        after_it = (prompts[j] for j in chain(range(i + 1, len(prompts)), range(i)))
        others = chain(
            prompt.foils,
            (ids[0] for ids in prompt.alternatives.values()),
            (p.answer_ids[0] for p in after_it if p.answer_ids),
        )
        right = {ids[0] for ids in prompt.right()}
        foils.append(next((token for token in others if token not in right), -1))
    return tuple(foils)


def _common_prefix(prompts: Sequence[Prompt]) -> int:
    """How many first tokens all prompts share; the last token of each is its own."""
    tokens = [p.token_ids for p in prompts if not p.excluded]
    if not tokens:
        return 0
    low, high = min(tokens), max(tokens)  # in lexical order all others lie between them
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return min(shared, *(len(ids) - 1 for ids in tokens))
