"""An edit of the spec at one block of one model, for one task, with the recipe of the vector that it uses."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from patchboard.errors import SpecError
from patchboard.ops import OPS, fitted_part
from patchboard.plan.cells import ATTENTION, CLEAN, OWN, SAME, STATE, Edit, StateRead
from patchboard.plan.edit_sites import EditSite, cut_heads_of, neurons_of, summed_heads
from patchboard.plan.facts import ModelFacts
from patchboard.plan.feature_edits import feature_fields
from patchboard.plan.learning import taught_edit
from patchboard.spec.axes import Variant
from patchboard.spec.edits import EditSection
from patchboard.spec.positions import ENDS
from patchboard.spec.sections import ModelSection
from patchboard.spec.sites import HEADED, NEURAL, PATTERN
from patchboard.spec.vectors import VectorSection
from patchboard.tasks.base import NULL
from patchboard.tasks.contrast import SIDES
from patchboard.vectors.base import Place, Recipe
from patchboard.vectors.fitters import FITTERS

Answers = Literal["own", "shuffled"]
"""Whose outputs the demonstrations of fit prompts carry: their own, or each another one's."""

_VECTOR_FIELDS = ("vector", "site", "position", "neurons", "edits")


class FitSetting(NamedTuple):
    """Which prompts a vector is fitted on."""

    shots: int
    prompts: int
    answers: Answers = "own"
    texts: str = ""
    """A file of paired texts in place of prompts of the tasks."""
    others: bool = False
    """Whether the prompts know their answers under other tasks."""


@dataclass(frozen=True)
class Context:
    """What cells of one point and one task depend on, beside the spec."""

    task: str  # whose vectors are meant: the evaluated one, or a control's other one
    evaluated: str
    tasks: tuple[str, ...]  # of the family, Null last where included
    facts: ModelFacts
    fit_ids: Mapping[FitSetting, str]
    global_label: str  # "" or "@a=1,...": swept global fields that a vector depends on
    answers: Answers = "own"
    seed: int = 0  # of the prompts
    model: ModelSection = field(default_factory=ModelSection)
    shots: int = 0  # of the evaluated prompts
    shots_label: str = ""  # "prompts.shots=4" where they are swept

    @property
    def real(self) -> tuple[str, ...]:
        return tuple(task for task in self.tasks if task != NULL)

    def partner(self) -> str:
        """The other task whose vector controls this one: the next in the family's order."""
        return self.real[(self.real.index(self.task) + 1) % len(self.real)]

    def fit_of(self, vector: VectorSection) -> str:
        """Id of the fit that a vector is made from."""
        setting = setting_of(vector, self.answers if is_paired(vector) else "own", self.shots)
        if setting not in self.fit_ids:
            what = f"one asks for fit prompts with {setting.answers} answers, which are not made here"
            raise SpecError("controls", what, f"leave {setting.answers} out")
        return self.fit_ids[setting]


@dataclass(frozen=True)
class PlannedEdit:
    """One edit of the intervention at one block, with the recipe of its operand."""

    edit: Edit
    recipe: Recipe | None
    taught: Edit | None = None
    """Of a vector that is learned: the edit by which it is put in meanwhile."""


def planned_edit(section: EditSection, site: EditSite, label: str, context: Context, where: str) -> PlannedEdit:
    """label: the intervention's part of its vectors' keys. where: of the section, for refusals."""
    position = json.dumps(section.position)
    layer, head = site
    if section.edges is not None:
        origin, position = map(json.dumps, section.edges.ends)
        heads = cut_heads_of(section, context.facts, where)
        return PlannedEdit(Edit(section.op, ATTENTION, layer, position, 1.0, origin=origin, heads=heads), None)
    neurons = neurons_of(section, context.facts, where)
    edit = Edit(section.op, section.site, layer, position, section.strength, head=head, neurons=neurons)
    if edit.site == PATTERN:
        edit = replace(edit, keys=context.facts.head_dim)
    if OPS.get(section.op, "op").operand == "noise":
        edit = replace(edit, seed=_noise_seed(edit, section.draw, context))
    vector = section.vector
    source = donor_of(section, context)
    edit = _reading(edit, section, source, context, where) if source else edit
    if vector is None:
        return PlannedEdit(edit, None)
    if vector.file is not None:
        return _from_file(edit, position, vector, label, context, where)
    fitter = FITTERS.get(vector.kind, f"{where}.vector")
    of_features = feature_fields(section, layer, context.model, context.facts, where) if vector.sae is not None else {}
    named = [resolve_source(source, context)[0] for source in vector.sources] or [context.tasks]
    if vector.contrast is not None:
        named = [(side,) for side in SIDES]
    if vector.fitted_at is not None and vector.fitted_at.position is not None:
        position = json.dumps(vector.fitted_at.position)
    labels, size = context.tasks, context.facts.head_dim
    of_task = vector_task(vector, context) + (f"~{context.answers}" if context.answers != "own" else "")
    recipe = Recipe(
        key=f"{label}/{of_task}/{layer}" + (f".{head}" if head >= 0 else ""),
        fit=context.fit_of(vector),
        kind=vector.kind,
        place=Place("head" if fitter.reads_heads else section.site, position),
        layer=layer,
        only="all" if vector.contrast or vector.is_learned else vector.only,
        plus=named[0],
        minus=named[1] if len(named) > 1 else (),
        rank=_rank(vector, len(labels)),
        method=vector.method,
        needs_states=fitter.needs_states(vector),
        **{"options": (*vector.options.items(), *_paired_with(vector, context)), **of_features},
        columns=(head * size, (head + 1) * size) if head >= 0 else None,
        neurons=() if vector.is_learned else neurons,
        heads=tuple((block, n * size, (n + 1) * size) for block, n in summed_heads(vector, context.facts, where)),
    )
    taught = _taught(edit, recipe, vector, context, where) if vector.is_learned else None
    return PlannedEdit(with_operand(edit, recipe.key), recipe, taught)


def _taught(edit: Edit, recipe: Recipe, vector: VectorSection, context: Context, where: str) -> Edit:
    """The edit by which a vector is learned. Raises SpecError for more dimensions than states have."""
    width = context.facts.head_dim if edit.head >= 0 else context.facts.width_at(edit.site)
    if recipe.rank > width:
        what = f"{recipe.rank} dimensions of states of {width} at {edit.site}"
        raise SpecError(f"{where}.vector.rank", what, f"use at most {width}")
    return taught_edit(edit, recipe, _pairs_with(vector, context) if vector.das else "")


def _paired_with(vector: VectorSection, context: Context) -> tuple[tuple[str, str], ...]:
    """Of a das vector whose prompts its pairs are with, as an option of its recipe."""
    return (("source", _pairs_with(vector, context)),) if vector.das else ()


def _pairs_with(vector: VectorSection, context: Context) -> str:
    """Whose prompts a das vector's pairs are with: a task, or a source of the rows."""
    assert vector.das is not None
    return resolve_source(vector.das, context)[1]


def with_operand(edit: Edit, key: str) -> Edit:
    """The edit with the operand of that key: beside a state, the subspace in which the state is put in."""
    return replace(edit, subspace=key) if edit.operand.startswith(STATE) else replace(edit, operand=key)


def _rank(vector: VectorSection, labels: int) -> int:
    """Dimensions of a subspace, 0 of a vector."""
    return vector.rank or (labels - 1 if vector.subspace else 1 if vector.pca or vector.das else 0)


def _from_file(
    edit: Edit, position: str, vector: VectorSection, label: str, context: Context, where: str
) -> PlannedEdit:
    """The edit with a file's vector, which is read here. position: the spec's, of which ``align`` may leave the edit
    one token. Raises SpecError where it is none of this place."""
    from patchboard.vectors.files.given import Use, given

    task, wants = vector_task(vector, context), fitted_part(edit.op)
    width, several = context.facts.width_at(edit.site), len(edit.neurons)
    use = Use(
        context.model, edit.layer, edit.head, edit.site, position, width, several,
        context.task, wants,
    )  # fmt: skip
    found = given(vector, use, f"{where}.vector")
    cut = several and found.tensors[0].shape[-1] != several
    recipe = Recipe(
        key=f"{label}/{task}/{edit.layer}" + (f".{edit.head}" if edit.head >= 0 else ""),
        fit="",
        kind=vector.kind,
        place=Place(edit.site, position),
        layer=edit.layer,
        only="all",
        plus=(context.task,) if vector.sources else (),
        rank=found.tensors[0].shape[0] if wants == "subspace" else 0,
        neurons=edit.neurons if cut else (),
        given=found,
    )
    return PlannedEdit(with_operand(edit, recipe.key), recipe)


def _noise_seed(edit: Edit, draw: int, context: Context) -> int:
    """32 bits by all that decides the noise of an edit, but for the query and the token: not by the intervention, so
    that those that corrupt one place can be compared."""
    told = (context.seed, context.evaluated, edit.layer, edit.site, edit.head, draw)
    return zlib.crc32("/".join(map(str, told)).encode())


def setting_of(vector: VectorSection, answers: Answers, evaluated: int) -> FitSetting:
    """Which prompts a vector is fitted on. evaluated: demonstrations of the evaluated ones."""
    if vector.contrast is not None:
        return FitSetting(0, 0, texts=vector.contrast)
    shots = evaluated if vector.as_evaluated else vector.shots
    return FitSetting(shots, vector.prompts, answers, others=vector.das is not None)


def is_paired(vector: VectorSection) -> bool:
    """Whether it is fitted on demonstrations that pair inputs with answers by a rule: all are but those of Null alone,
    those of files and of a file's texts, and features that are chosen by number. One that is learned counts as none:
    its answers are what it is taught."""
    chosen_already = vector.sae is not None and vector.select is None
    given = vector.file is not None or vector.contrast is not None or chosen_already or vector.is_learned
    return not given and vector.sources not in (["null_task"], [NULL])


def vector_label(variant: Variant, context: Context) -> str:
    """The intervention's part of a vector's key: its name, and the swept values that change the vector."""
    prefix = f"interventions.{variant.name}."
    own = [
        f"{path.removeprefix(prefix)}={value}"
        for path, value in variant.swept.items()
        if path.removeprefix(prefix).split(".")[0].split("[")[0] in _VECTOR_FIELDS
    ]
    of_shots = any(part.vector and part.vector.as_evaluated for part in variant.section.parts)
    parts = [*filter(None, (context.global_label, context.shots_label if of_shots else "")), *own]
    return variant.name + ("@" + ",".join(parts).replace("/", "|") if parts else "")


def resolve_source(source: str, context: Context) -> tuple[tuple[str, ...], str]:
    """Tasks that a source stands for, and how ``vector_task`` calls them."""
    if source == "same_task":
        return (context.task,), context.task
    if source == "other_task":
        return (context.partner(),), context.partner()
    if source == "null_task":
        return (NULL,), NULL
    if source == "all_tasks":
        return context.real, "ALL"
    return (source,), source


def vector_task(vector: VectorSection, context: Context) -> str:
    """How result rows call the tasks that a vector is made of."""
    if not vector.sources:
        return next((kind for kind in ("file", "contrast", "sae") if getattr(vector, kind)), "tasks")
    names = [resolve_source(s, context)[1] for s in vector.sources]
    return names[0] if len(names) == 1 or vector.sources[0] == "same_task" else "-".join(names)


def donor_of(section: EditSection, context: Context) -> str:
    """Whose prompts an edit takes its states from: a task, a source of the family's rows, SAME for other prompts of the
    same task, OWN for the prompt itself, "" for none."""
    if section.source is None and OPS.get(section.op, "op").operand != "state":
        return ""
    name = section.source.name if section.source else "other_task"
    if name == CLEAN:
        return OWN
    named = resolve_source(name, context)[1]
    return SAME if named == context.evaluated else named


def _reading(edit: Edit, section: EditSection, donor: str, context: Context, where: str) -> Edit:
    """The edit with the donor's state as its operand, read where the section says.

    Raises SpecError for a state of another width.
    """
    edit, source, facts = replace(edit, operand=STATE + donor), section.source, context.facts
    if source is None:
        return edit
    layer, site = edit.layer if source.layer is None else source.layer, source.site or edit.site
    if layer >= facts.layers:
        raise SpecError(
            f"{where}.source.layer", f"found {layer}, the model has {facts.layers} layers", "use a lower one"
        )
    if site not in facts.sites:
        what = f"there is no site '{site}' in family '{facts.family}'"
        raise SpecError(f"{where}.source.site", what, f"choose one of {', '.join(facts.sites)}")
    inside = (*HEADED, *NEURAL)
    if site != edit.site and (site in inside or edit.site in inside):
        what = f"{site} and {edit.site} hold different parts of a block, no state of one fits the other"
        raise SpecError(f"{where}.source.site", what, "leave it out, or read the stream or what is added to it")
    position = edit.position if source.position is None else json.dumps(source.position)
    if source.align in ENDS:
        edit, position = replace(edit, position=_at_end(edit.position, source.align)), _at_end(position, source.align)
    read = StateRead(layer, site, position, source.align == "all")
    own = StateRead(edit.layer, edit.site, edit.position)
    return edit if read == own else replace(edit, read=read)


def _at_end(position: str, end: str) -> str:
    """The first or last token of each place that a position (JSON text) names."""
    value = json.loads(position)
    names = value if isinstance(value, list) else [value]
    ends = [f"{name}.{end}" if isinstance(name, str) and "." not in name else name for name in names]
    return json.dumps(ends if isinstance(value, list) else ends[0])
