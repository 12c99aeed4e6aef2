"""Which cells of a plan a script holds, and on which queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from patchboard.errors import SpecError
from patchboard.plan.cells import Cell
from patchboard.plan.computed import is_computed
from patchboard.plan.model import Group, ModelPlan, ScoredCell
from patchboard.registry import suggest
from patchboard.spec.axes import Study, label
from patchboard.spec.keep import FIRST
from patchboard.spec.layers import parse_layers
from patchboard.spec.sites import PATTERN

ALL = "all"


@dataclass(frozen=True)
class Selection:
    """What the flags ask for. Empty: every intervention, no control, the first task, middle layer and first head."""

    interventions: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    layers: str = ""
    heads: str = ""
    queries: int = 3
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Swept path -> the value meant; its first value where it is not named."""


@dataclass(frozen=True)
class ChosenGroup:
    """Cells of one task, and the places of its queries in ``group.prompts``."""

    group: Group
    uses: tuple[ScoredCell, ...]
    queries: tuple[int, ...]


@dataclass(frozen=True)
class Chosen:
    """Cells of one model at one setting of the spec's sweeps."""

    plan: ModelPlan
    groups: tuple[ChosenGroup, ...]
    setting: Mapping[str, Any]
    left_out: tuple[str, ...] = ()
    """Interventions that a script cannot hold, each with the reason."""

    @property
    def uses(self) -> list[ScoredCell]:
        return [use for chosen in self.groups for use in chosen.uses]


def choose(study: Study, plans: Sequence[ModelPlan], selection: Selection) -> Chosen:
    """The cells that are asked for. Raises SpecError, at the flag, for what the spec has not."""
    if not any(group.uses for plan in plans for group in plan.groups):
        raise SpecError("interventions", "there is none, and nothing to emit", "add one to the spec")
    _check_answers(plans)
    setting = _setting(study, selection.settings)
    chosen = [
        (plan, group, [u for u in group.uses if _is_at(u.cell, setting)])
        for plan in plans
        for group in plan.groups
        if group.role == "evaluate"
    ]
    plan = next(plan for plan, _, uses in chosen if uses)
    groups = {group.task: (group, uses) for own, group, uses in chosen if own is plan and uses}
    named = _known(selection.tasks, groups, "--task", "task") or tuple(groups)[:1]
    left_out = _unwritable([use.cell for _, uses in groups.values() for use in uses], selection.interventions)
    groups = {task: (group, [u for u in uses if not _lacks(u.cell)]) for task, (group, uses) in groups.items()}
    cells = [use.cell for _, uses in groups.values() for use in uses]
    wanted = _known(selection.interventions, [c.intervention for c in cells], "--intervention", "intervention")
    controls = _known(selection.controls, [c.control for c in cells if c.control], "--control", "control")
    kept = []
    for task in named:
        group, uses = groups[task]
        uses = [u for u in uses if not wanted or u.cell.intervention in wanted]
        uses = list(_placed([u for u in uses if u.cell.control in ("", *controls)], plan, selection, bool(wanted)))
        kept.append(ChosenGroup(group, tuple(uses), _queries(group, uses, selection.queries)))
    return Chosen(plan, tuple(kept), setting, left_out)


def _lacks(cell: Cell) -> str:
    """What the cell does that a script cannot, empty where it can do all."""
    reasons = {
        "sets attention weights": any(edit.site == PATTERN for edit in cell.edits),
        "cuts edges of attention": any(edit.origin for edit in cell.edits),
        "draws noise": any(edit.seed >= 0 for edit in cell.edits),
        "puts in a part of a state": any(edit.subspace for edit in cell.edits),
        "follows a path": any(edit.lender for edit in cell.edits),
        "keeps every head": not cell.edits,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _unwritable(cells: Sequence[Cell], named: Sequence[str]) -> tuple[str, ...]:
    """The interventions that a script cannot hold, in words. Raises SpecError for one that is asked for by name, and
    where there is no other."""
    lacking = {cell.intervention: why for cell in cells if not cell.control and (why := _lacks(cell))}
    for name in named if any(cell.intervention not in lacking for cell in cells) else lacking:
        if name in lacking:
            raise SpecError("--intervention", f"{name} {lacking[name]}, which a script cannot", "emit others")
    return tuple(f"{name} {why}, which a script cannot" for name, why in lacking.items())


def _setting(study: Study, named: Mapping[str, Any]) -> dict[str, Any]:
    for path, value in named.items():
        if path not in study.axes:
            remedy = suggest(path, study.axes) if study.axes else "leave the flag out"
            raise SpecError("--setting", f"'{path}' is not swept in this spec", remedy)
        if label(value) not in map(label, study.axes[path]):
            values = ", ".join(map(label, study.axes[path]))
            raise SpecError("--setting", f"{path} is never {label(value)}", f"choose one of {values}")
    return {path: named.get(path, values[0]) for path, values in study.axes.items()}


def _is_at(cell: Cell, setting: Mapping[str, Any]) -> bool:
    """Of kept heads ``all`` is the cell without an edit, whose row has their number."""
    return all(
        label(value) == label(setting[path]) or (setting[path] == "all" and path.endswith(FIRST) and not cell.edits)
        for path, value in cell.swept
    )


def _known(names: Sequence[str], known: Iterable[str], flag: str, kind: str) -> tuple[str, ...]:
    """The names, each once, all of the known ones for ``all``."""
    known = tuple(dict.fromkeys(known))
    for name in names:
        if name not in (*known, ALL):
            none = f"no {kind} '{name}' in this spec"
            raise SpecError(flag, none, suggest(name, known) if known else "leave the flag out")
    return known if ALL in names else tuple(dict.fromkeys(names))


def _placed(uses: Sequence[ScoredCell], plan: ModelPlan, selection: Selection, named: bool) -> Iterator[ScoredCell]:
    """Of each intervention the cells at the layers and heads asked for. named: whether the user named them, so that
    each must have one."""
    by_name: dict[str, list[ScoredCell]] = {}
    for use in uses:
        by_name.setdefault(use.cell.intervention, []).append(use)
    layers, heads = plan.facts.layers, plan.facts.heads
    if selection.heads and not heads:
        raise SpecError("--head", f"there are no attention heads in family '{plan.facts.family}'", "leave the flag out")
    wanted = parse_layers(selection.layers, layers, "--layer") if selection.layers else ()
    of_heads = parse_layers(selection.heads, heads, "--head", "head") if selection.heads else ()
    some = False
    for name, own in by_name.items():
        at = list(dict.fromkeys(use.cell.row["layer"] for use in own))
        here = [layer for layer in at if layer in wanted] if wanted else [at[len(at) // 2]]
        several = list(dict.fromkeys(use.cell.row["head"] for use in own))
        which = [head for head in several if head in of_heads or head < 0] if of_heads else several[:1]
        placed = [use for use in own if use.cell.row["layer"] in here and use.cell.row["head"] in which]
        if named and not placed:
            _refuse(f"{name} has no cell", selection, at, several)
        some = some or bool(placed)
        yield from placed
    if not some:
        rows = [use.cell.row for use in uses]
        _refuse("no intervention has a cell", selection, [r["layer"] for r in rows], [r["head"] for r in rows])


def _check_answers(plans: Sequence[ModelPlan]) -> None:
    """A script tells one answer a query; with more of them its numbers would be others than the run's."""
    sets = [group.prompts for plan in plans for group in plan.groups]
    sets += [prompts for plan in plans for fit in plan.fits for prompts in fit.prompts.values()]
    several = sum(bool(prompt.more) for prompts in sets for prompt in prompts)
    if several:
        what = f"{several} prompts have several right answers, a script holds one a query"
        raise SpecError("tasks", what, "give rows of one output each")


def _refuse(what: str, selection: Selection, layers: Iterable[int], heads: Iterable[int]) -> None:
    layers, heads = sorted(set(layers)), sorted({head for head in heads if head >= 0})
    at = [f"layer {selection.layers}"] * bool(selection.layers) + [f"head {selection.heads}"] * bool(selection.heads)
    there = f"layers {', '.join(map(str, layers))}" + (f", heads {', '.join(map(str, heads))}" if heads else "")
    raise SpecError(
        "--layer" if selection.layers else "--head", f"{what} at {' and '.join(at)}", f"its cells are at {there}"
    )


def _queries(group: Group, uses: Sequence[ScoredCell], count: int) -> tuple[int, ...]:
    """The first queries on which all of the cells can be computed."""
    copies = [group.copies[use.patched] for use in uses]
    usable = [i for i in range(len(group.prompts)) if all(is_computed(group, copy, i) for copy in copies)]
    if not usable:
        what = f"there is no query of {group.task} in which all chosen cells have a token to edit"
        raise SpecError("--intervention", what, "choose fewer interventions")
    return tuple(usable[:count])
