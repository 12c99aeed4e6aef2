"""Fresh probes after edits that erase: states in packs, probes fitted on them, a part a cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchboard.engine.erased import states_of_copies
from patchboard.engine.local import LocalEngine, Step
from patchboard.execution.model_run import ModelRun
from patchboard.measure.decodability import label_codes
from patchboard.measure.guarded import Points
from patchboard.measure.notes import not_finite
from patchboard.measure.probing import Asked, cross_validated, folds_of, in_sample
from patchboard.plan.guardedness import group_of, usable
from patchboard.plan.model import GuardedCell, Guarding
from patchboard.plan.queries import query_groups
from patchboard.probes import FOLDS, PROBES
from patchboard.tasks.base import NULL
from patchboard.tasks.prompt import Prompt

_BYTES_AT_ONCE = 1 << 29
"""Of states that are held while probes are fitted on them: more cells take the prompts through the model again."""


def note_points(run: ModelRun, engine: LocalEngine) -> None:
    """Write which prompts are points, unless it is in the folder."""
    for guarding in run.plan.guardings:
        parts = GuardParts(run, guarding)
        if not run.folder.has(parts.points_file):
            run.folder.write_arrays(parts.points_file, {"used": _fitted_on(run, guarding, engine)})


def probe_guarded(
    run: ModelRun, engine: LocalEngine, way: str, operands: Mapping[str, Any], take: Callable[[str], bool]
) -> list[str]:
    """Write what fresh probes find after every cell that erases, as far as it is not in the folder and this process's
    to do; gives notes.

    way: as ``packs_of`` takes an engine. operands: as ``LocalEngine.place`` gives them. take: as of ``Claims``.
    """
    notes = []
    for guarding in run.plan.guardings:
        notes += _Fitting(run, GuardParts(run, guarding), engine).fit(way, operands, take)
    return notes


def all_probed(run: ModelRun) -> bool:
    """Whether the folder has what probes find after all cells."""
    return not any(GuardParts(run, guarding).missing() for guarding in run.plan.guardings)


class GuardParts:
    """The files of one set of prompts: which of them are points, and what probes gave these, unedited and after each
    cell. Numbers of cells are places in ``guarding.cells``; ``clean`` is the unedited run."""

    def __init__(self, run: ModelRun, guarding: Guarding):
        self.run, self.guarding = run, guarding
        self.points_file = self.file("points")
        self.layers = run.plan.facts.layers
        self.first = min(cell.cell.layer for cell in guarding.cells)

    def file(self, of: str | int) -> str:
        return f"parts/{self.run.prefix}{self.guarding.id}-{of}.npz"

    def first_of(self, of: str | int) -> int:
        """The first layer at which probes are fitted."""
        return self.guarding.cells[of].cell.layer if isinstance(of, int) else self.first

    def all(self) -> list[str | int]:
        return ["clean", *range(len(self.guarding.cells))]

    def missing(self) -> list[str | int]:
        return [of for of in self.all() if not self.run.folder.has(self.file(of))]

    def prompts(self) -> dict[str, list[Prompt]]:
        """Label -> prompts that are points."""
        with np.load(self.run.folder.path / self.points_file) as stored:
            used = stored["used"]
        chosen, start = {}, 0
        for label, rows in self.guarding.prompts.items():
            rows = usable(rows)
            chosen[label] = [prompt for prompt, own in zip(rows, used[start:], strict=False) if own]
            start += len(rows)
        return {label: rows for label, rows in chosen.items() if rows}

    def points(self) -> Points:
        prompts = [prompt for rows in self.prompts().values() for prompt in rows]
        return Points([prompt.task for prompt in prompts], np.array(query_groups(prompts, self.guarding.shots)))

    def given(self, of: str | int) -> tuple[NDArray | None, NDArray | None]:
        """(cross-validated [layer, probe, point], in-sample [layer, linear probe, point]), None where there is none."""
        with np.load(self.run.folder.path / self.file(of)) as stored:
            return stored.get("crossed"), stored.get("sample")


class _Fitting:
    """Probes on one set of prompts."""

    def __init__(self, run: ModelRun, parts: GuardParts, engine: LocalEngine):
        self.run, self.parts, self.engine, self.guarding = run, parts, engine, parts.guarding
        section, points = self.guarding.section, parts.points()
        self.prompts, self.codes = parts.prompts(), label_codes(points.labels)
        self.asked = Asked(section.probes, section.k, self.guarding.seed)
        self.linear = Asked([p for p in section.probes if PROBES[p].linear], section.k, self.guarding.seed)
        parted = len(set(points.queries.tolist())) >= FOLDS <= np.bincount(self.codes).max()
        self.folds = folds_of(self.codes, points.queries, self.guarding.seed) if parted else []

    def fit(self, way: str, operands: Mapping[str, Any], take: Callable[[str], bool]) -> list[str]:
        """Gives notes."""
        half = self.guarding.half.replace("_", "-")
        step = self.run.progress.counter(f"probes after edits, {half} prompts", self._layers(self.parts.all()))
        for several in self._at_once(self.parts.all()):
            if not take(self.parts.file(several[0])):
                step(self._layers(several))
                continue
            missing = self.parts.missing()
            some = [of for of in several if of in missing]
            step(self._layers(several) - self._layers(some))
            for of, states in zip(some, self._states(some, way, operands) if some else (), strict=True):
                if not np.isfinite(states).all():
                    raise not_finite("states after an edit")
                self.run.folder.write_arrays(self.parts.file(of), self._fitted(of, states, step))
        if self.folds:
            return []
        what = f"{len(self.codes)} prompts that a subspace was fitted on ({self.guarding.fit}) are too few to part"
        return [f"{self.run.note_head}{what} into {FOLDS} folds: of these, probes are tested in-sample alone"]

    def _fitted(self, of: str | int, states: NDArray[np.float32], step: Step) -> dict[str, NDArray]:
        """What the part has of one cell's states [point, layer, d_model], or of the unedited run's."""
        arrays: dict[str, NDArray] = {}
        if self.folds:
            crossed = []
            for layer in range(states.shape[1]):
                crossed.append(cross_validated(states[:, layer], [self.codes], self.folds, self.asked)[0])
                step(1)
            arrays["crossed"] = np.stack(crossed)
        if self.guarding.half == "fit" and self.linear.probes:
            # of the unedited run beside every edited layer, of an edited run at its own
            sampled = range(states.shape[1] if of == "clean" else 1)
            arrays["sample"] = np.stack([in_sample(states[:, i], self.codes, self.linear) for i in sampled])
        return arrays

    def _layers(self, some: Sequence[str | int]) -> int:
        return sum(self.parts.layers - self.parts.first_of(of) for of in some)

    def _at_once(self, wanted: Sequence[str | int]) -> Iterator[list[str | int]]:
        """Those whose states may be held together."""
        some: list[str | int] = []
        held = 0
        for of in wanted:
            own = 4 * len(self.codes) * (self.parts.layers - self.parts.first_of(of)) * self.run.plan.facts.width
            if some and held + own > _BYTES_AT_ONCE:
                yield some
                some, held = [], 0
            some.append(of)
            held += own
        if some:
            yield some

    def _states(self, some: Sequence[str | int], way: str, operands: Mapping[str, Any]) -> list[NDArray[np.float32]]:
        """[point, layer, d_model] of each, points in label order."""
        cells: list[GuardedCell] = [self.guarding.cells[of] for of in some if isinstance(of, int)]
        facts, of_labels = self.run.plan.facts, []
        for label, prompts in self.prompts.items():
            group = group_of(self.guarding, label, prompts, cells)
            first = [self.parts.first, *(cell.cell.layer for cell in cells)]
            of_labels.append(states_of_copies(self.engine, group, first, facts, way, operands))
        clean, *edited = (np.concatenate(parts) for parts in zip(*of_labels, strict=True))
        return [clean, *edited] if "clean" in some else edited


def _fitted_on(run: ModelRun, guarding: Guarding, engine: LocalEngine) -> NDArray[np.bool_]:
    """[usable prompt] whether it is a point: of half ``fit`` whether the subspaces were fitted on it."""
    counts = {label: len(usable(rows)) for label, rows in guarding.prompts.items()}
    if guarding.only == "all":
        return np.ones(sum(counts.values()), dtype=bool)
    (fit,) = [fit for fit in run.plan.fits if fit.id == guarding.fit]
    right = engine.answered(fit)
    chosen = []
    for label, count in counts.items():
        own = right[label].numpy()
        # as PlaceStatistics: all of Null's, and all of a task without a right answer
        chosen.append(own if label != NULL and own.any() else np.ones(count, dtype=bool))
    return np.concatenate(chosen)
