"""The spec's section on a vector: what an edit writes or removes. Kinds of vector are fitters', one a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import ConfigDict, Field, model_validator

from patchboard.registry import Registry, suggest
from patchboard.spec.head_pairs import HeadPairs
from patchboard.spec.refusal import InvalidValue, only_once
from patchboard.spec.section import Count, Differing, Section, Shots, exactly_one
from patchboard.spec.values import shown

Takes = Literal["task", "pair", "tasks"]
"""What a kind's field holds: a source of states, two of them as ``[a, b]``, or the word ``tasks`` for all labels."""


class VectorKind(Protocol):
    """What a spec must know of a kind of vector; ``patchboard.vectors.fitters`` has the whole of it."""

    takes: ClassVar[Takes]
    options: ClassVar[Mapping[str, Any]]
    """Further fields that stand beside its own, with their defaults (numbers, texts, true or false)."""


KINDS: Registry[type[VectorKind]] = Registry("fitter")
"""Name -> kind of vector. Its field in the spec has its name."""

VECTOR_KINDS = ("mean", "difference", "subspace", "function_vector")
"""Kinds that are fields of the section; those of plug-ins are read as fields too, by the registry."""


class VectorSection(Section):
    """What an edit writes or removes, fitted on prompts that share no row with the evaluated ones."""

    model_config = ConfigDict(extra="allow", json_schema_extra=exactly_one(*VECTOR_KINDS))

    mean: str | None = Field(default=None, description="same_task, other_task, null_task, all_tasks, or a task's name")
    difference: Annotated[list[str], Field(min_length=2, max_length=2), Differing] | None = Field(
        default=None, description="[a, b]: mean of a minus mean of b, each as under `mean`"
    )
    subspace: Literal["tasks"] | None = Field(
        default=None, description="tasks: the space in which the tasks' states differ"
    )
    function_vector: str | None = Field(
        default=None, description="summed outputs of `heads`; of same_task or another source, as under `mean`"
    )
    heads: HeadPairs = Field(default=None, description="of a function vector: [layer, head] pairs")
    method: Literal["pca", "leace"] = Field(default="pca", description="of a subspace: PCA of the task means, or LEACE")
    rank: Count | None = Field(default=None, description="of a subspace; default: number of labels - 1")
    shots: Shots = Field(default=8, description="demonstrations of a fit prompt")
    prompts: Count = Field(default=100, description="fit prompts a task")
    only: Literal["correct", "all"] = Field(default="correct", description="fit prompts to use; Null always uses all")

    @property
    def kind(self) -> str:
        """The one field that says what it is."""
        return self._kinds()[0]

    @property
    def sources(self) -> list[str]:
        """Whose prompts it is fitted on, as the spec names them; none of a kind that takes all tasks'."""
        value = getattr(self, self.kind)
        if self.kind == "subspace" or (self.kind in KINDS and KINDS[self.kind].takes == "tasks"):
            return []
        return list(value) if isinstance(value, list) else [value]

    @property
    def options(self) -> dict[str, Any]:
        """The fields of a plug-in's kind beside its own, defaults filled in."""
        own = dict(KINDS[self.kind].options) if self.kind in KINDS else {}
        return own | {name: value for name, value in (self.model_extra or {}).items() if name in own}

    def _kinds(self) -> list[str]:
        extra = self.model_extra or {}
        shipped = [kind for kind in VECTOR_KINDS if getattr(self, kind) is not None]
        return shipped + [kind for kind in KINDS if kind not in VECTOR_KINDS and extra.get(kind) is not None]

    @model_validator(mode="after")
    def _one_kind(self) -> VectorSection:
        kinds = self._kinds()
        self._check_extra(kinds)
        if len(kinds) != 1:
            has = " and ".join(kinds) or "none"
            known = ", ".join(dict.fromkeys([*VECTOR_KINDS, *KINDS]))
            raise InvalidValue(f"has {has}, expected exactly one of {known}", "write one of them")
        for field, unset in (("rank", None), ("method", "pca")):
            value = getattr(self, field)
            if self.subspace is None and value != unset:
                what = f"found {shown(value)} beside {self.kind}, but only a subspace has a {field}"
                raise InvalidValue(what, "remove it, or write subspace: tasks", (field,))
        if self.function_vector is None and self.heads is not None:
            what = f"found {shown(self.heads)} beside {self.kind}, but only a function vector has heads"
            raise InvalidValue(what, "remove it, or write function_vector: same_task", ("heads",))
        if self.function_vector is not None and self.heads is None:
            raise InvalidValue(
                "is missing, a function vector is a sum over heads", "add [[layer, head], …]", ("heads",)
            )
        return self

    def _check_extra(self, kinds: list[str]) -> None:
        """Fields that are no section's own: a plug-in's kind and its options."""
        options = {name: value for kind in kinds if kind in KINDS for name, value in KINDS[kind].options.items()}
        for name, value in (self.model_extra or {}).items():
            if name in KINDS:
                if value is not None:
                    _check_taken(KINDS[name].takes, name, value)
            elif name not in options:
                fields = {*type(self).model_fields, *KINDS, *options}
                raise InvalidValue(f"unknown key '{name}'", suggest(name, fields), (name,))
            elif type(value) is not type(options[name]) and not (type(value), type(options[name])) == (int, float):
                what = f"found {shown(value)}, expected something as {shown(options[name])}"
                raise InvalidValue(what, f"write {name}: {options[name]}", (name,))


def _check_taken(takes: Takes, name: str, value: Any) -> None:
    if takes == "task" and not isinstance(value, str):
        raise InvalidValue(f"found {shown(value)}, expected a task", f"write {name}: same_task", (name,))
    if takes == "pair":
        if not (isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)):
            what = f"found {shown(value)}, expected two tasks"
            raise InvalidValue(what, f"write {name}: [same_task, all_tasks]", (name,))
        try:
            only_once(value)
        except InvalidValue as refusal:
            raise refusal.inside(name) from None
    if takes == "tasks" and value != "tasks":
        raise InvalidValue(f"found {shown(value)}, expected tasks", f"write {name}: tasks", (name,))
