"""Trainings: the fit prompts by which vectors are learned, laid out as evaluated prompts with a copy a vector.

All vectors of one task, source and position are learned in the same passes, whatever their layers: a copy is blind to
all others, so each learns as it would alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from patchboard.errors import SpecError
from patchboard.plan.cells import STATE, Edit, source_of
from patchboard.plan.computed import is_computed
from patchboard.plan.model import Counterfactual, Fit, Group
from patchboard.plan.open_group import foils_of, given_prompts
from patchboard.tasks.prompt import Prompt
from patchboard.vectors.base import Recipe
from patchboard.vectors.fitters import learned_kind

HELD_OUT = 0.25
"""Share of the pairs that no step sees."""
LOOK = 10
"""Steps between two looks at the held-out pairs."""
_FEWEST = 8
"""Pairs to learn on and to hold out: of fewer nothing can be told."""


@dataclass(frozen=True)
class Settings:
    """The fields of ``spec.learned`` that say how."""

    steps: int
    batch: int
    learning_rate: float
    patience: int
    seed: int


@dataclass(frozen=True)
class Training:
    """Vectors that are learned together.

    group: the fit prompts, those whose states are put in, and the copies: the clean run, then one for each of ``keys``,
    the recipes that its vector is for. source: in ``group.donors``, "" of vectors that take no state. pairs: prompts
    that it can be learned on, in order of the draw by which they are held out.
    """

    id: str
    group: Group
    source: str
    keys: tuple[tuple[str, ...], ...]
    settings: Settings
    pairs: tuple[int, ...]

    @property
    def held_out(self) -> tuple[int, ...]:
        """Pairs that no step sees."""
        return self.pairs[: max(1, round(HELD_OUT * len(self.pairs)))]

    @property
    def seen(self) -> tuple[int, ...]:
        """Pairs that it is learned on."""
        return self.pairs[len(self.held_out) :]

    def batches(self) -> list[tuple[int, ...]]:
        """The pairs of each step: all that are seen in a random order, again and again; the same ones each time."""
        rng = np.random.default_rng([self.settings.seed, 1])
        size, order = min(self.settings.batch, len(self.seen)), []
        while len(order) < size * self.settings.steps:
            order += rng.permutation(self.seen).tolist()
        return [tuple(order[start : start + size]) for start in range(0, size * self.settings.steps, size)]

    def looks(self) -> list[int]:
        """Steps after which the held-out pairs are looked at, 0 and the last among them."""
        return [*range(0, self.settings.steps, LOOK), self.settings.steps]


def part_of(group: Group, prompts: Sequence[int], copies: Sequence[int]) -> Group:
    """The group with these prompts and copies alone."""
    return replace(
        group,
        prompts=tuple(group.prompts[i] for i in prompts),
        foils=tuple(group.foils[i] for i in prompts),
        copies=tuple(group.copies[c] for c in copies),
        donors={source: tuple(given[i] for i in prompts) for source, given in group.donors.items()},
    )


@dataclass
class OpenTrainings:
    """The trainings of a plan while recipes are added to them."""

    copies: dict[tuple, dict[tuple[Recipe, Edit], list[str]]] = field(default_factory=dict)
    """(fit, task, source, position, place of the state, settings) -> recipe and the edit by which it is taught, without
    its key -> the keys of all recipes like it: what two interventions share is learned once."""
    fields: dict[tuple, str] = field(default_factory=dict)
    """The same -> the spec's field that asked for it first."""

    def add(self, recipe: Recipe, edit: Edit, where: str) -> None:
        """where: of the vector."""
        options = dict(recipe.options)
        settings = Settings(**{name: options[name] for name in Settings.__dataclass_fields__})
        read = edit.read and (edit.read.position, edit.read.filled)
        key = recipe.fit, recipe.plus[0], source_of(edit), edit.position, read, settings
        alike = self.copies.setdefault(key, {}).setdefault((replace(recipe, key=""), _named(edit, "")), [])
        alike.append(recipe.key)
        self.fields.setdefault(key, f"{where}.{recipe.kind}")

    def close(self, fits: Mapping[str, Fit]) -> tuple[Training, ...]:
        """fits: by id. Raises SpecError where there are too few pairs to learn on."""
        return tuple(self._closed(f"learned{n}", key, fits[key[0]]) for n, key in enumerate(self.copies))

    def _closed(self, name: str, key: tuple, fit: Fit) -> Training:
        _, task, source, *_, settings = key
        prompts = tuple(fit.prompts[task])
        keys = tuple(map(tuple, self.copies[key].values()))
        edits = [_named(edit, own[0]) for (_, edit), own in zip(self.copies[key], keys, strict=True)]
        copies = [Counterfactual(), *(Counterfactual((edit,), source) for edit in edits)]
        group = Group(
            id=name, task=task, shots=fit.shots, seed=settings.seed, prompts=prompts, foils=foils_of(prompts),
            copies=tuple(copies), noise_copy=0, uses=(), metrics=("logprob",),
            donors={source: given_prompts(source, task, prompts, fit.prompts)} if source else {},
        )  # fmt: skip
        usable = [i for i, prompt in enumerate(prompts) if _can_teach(group, prompt, source, i)]
        if len(usable) < _FEWEST:
            of = f", whose answer under {source} is another," if source else ""
            what = f"{len(usable)} of {len(prompts)} fit prompts of {task}{of} can be learned on, it takes {_FEWEST}"
            raise SpecError(self.fields[key], what, "use more prompts, or another source or position")
        order = np.random.default_rng([settings.seed, 0]).permutation(usable)
        return Training(name, group, source, keys, settings, tuple(order.tolist()))


def _can_teach(group: Group, prompt: Prompt, source: str, i: int) -> bool:
    """Whether all copies can be computed for it, and its source asks for another answer than its own."""
    differs = prompt.differs(source) if source else not prompt.excluded
    return differs and all(is_computed(group, copy, i) for copy in group.copies)


def taught_edit(edit: Edit, recipe: Recipe, source: str) -> Edit:
    """The edit by which the recipe's vector is learned: at the place of ``edit``, whole. source: whose state it takes
    where it takes one; read where ``edit`` reads it, if that takes the same source's."""
    kind = learned_kind(recipe.kind)
    assert kind is not None
    edit = replace(edit, op=kind.taught_by, strength=1.0, read=edit.read if source_of(edit) == source else None)
    return _named(replace(edit, operand=STATE + source if source else ""), recipe.key)


def _named(edit: Edit, key: str) -> Edit:
    """The edit with the vector of that key: beside a state the subspace, else the operand itself."""
    return replace(edit, subspace=key) if edit.operand.startswith(STATE) else replace(edit, operand=key, subspace="")
