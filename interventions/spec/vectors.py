"""The spec's section on a vector: what an edit writes or removes. Kinds of vector are fitters', one a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

from pydantic import (
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from patchboard.registry import Registry, suggest
from patchboard.spec.dictionaries import OF_DICTIONARIES, check_dictionary
from patchboard.spec.fitted import FittedFields
from patchboard.spec.learned import LEARNED, LEARNED_FIELDS, LearnedFields, of_kind, unmeant
from patchboard.spec.refusal import InvalidValue, only_once
from patchboard.spec.section import exactly_one
from patchboard.spec.values import shown

Takes = Literal["task", "pair", "tasks", "file"]
"""What a kind's field holds: a source of states, two of them as ``[a, b]``, the word ``tasks`` for all labels, or a
file in place of all of them."""


class VectorKind(Protocol):
    """What a spec must know of a kind of vector; ``patchboard.vectors.fitters`` has the whole of it."""

    takes: ClassVar[Takes]
    options: ClassVar[Mapping[str, Any]]
    """Further fields that stand beside its own, with their defaults (numbers, texts, true or false)."""


KINDS: Registry[type[VectorKind]] = Registry("fitter")
"""Name -> kind of vector. Its field in the spec has its name."""

VECTOR_KINDS = (
    "mean", "difference", "mass_mean", "logistic", "subspace", "pca", "function_vector", "contrast", "sae", "file",
    *LEARNED,
)  # fmt: skip
"""Kinds that are fields of the section; those of plug-ins are read as fields too, by the registry."""

_RANKED = (("rank", "pca"), ("rank", "das"))
"""Fields of a subspace that other kinds have too."""
_OF_FITS = ("method", "shots", "prompts", "only")
"""Fields that say how a vector is fitted, of which one from a file has none."""
PLACEHOLDERS = ("task", "layer", "head")
"""What a key may leave open, in braces."""


class VectorSection(LearnedFields, FittedFields):  # in this order the learned ones' fields stand last
    """What an edit writes or removes, fitted on prompts that share no row with the evaluated ones."""

    model_config = ConfigDict(extra="allow", json_schema_extra=exactly_one(*VECTOR_KINDS))

    @cached_property
    def kind(self) -> str:
        """The one field that says what it is."""
        return self._kinds()[0]

    @cached_property
    def sources(self) -> list[str]:
        """Whose prompts it is fitted on, as the spec names them; none of a kind that takes all tasks', and of a file
        whose key is the same for each."""
        value = getattr(self, self.kind)
        if self.contrast is not None:
            return []
        if self.sae is not None:
            return list(self.select or ())
        if self.das is not None:
            return ["same_task"]
        if self.file is not None:
            return ["same_task"] if "{task}" in (self.key or "") else []
        if self.kind == "subspace" or (self.kind in KINDS and KINDS[self.kind].takes == "tasks"):
            return []
        return list(value) if isinstance(value, list) else [value]

    @property
    def is_learned(self) -> bool:
        """Whether it is learned through the model, and not made of states alone."""
        return self.kind in LEARNED

    @property
    def as_evaluated(self) -> bool:
        """Whether its fit prompts have as many demonstrations as the evaluated ones."""
        return self.is_learned and "shots" not in self.model_fields_set

    @property
    def options(self) -> dict[str, Any]:
        """The fields of a plug-in's kind beside its own, defaults filled in."""
        if self.logistic is not None:
            return {"l2": self.l2}
        if self.is_learned:
            return {name: getattr(self, name) for name in LEARNED[self.kind]}
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
        self._check_file()
        check_dictionary(self, self.kind)
        if self.logistic is None and "l2" in self.model_fields_set:
            what = f"found {shown(self.l2)} beside {self.kind}, but only a logistic regression has a penalty"
            raise InvalidValue(what, "remove it, or write logistic: [same_task, all_tasks]", ("l2",))
        for field, unset in (("rank", None), ("method", "pca")):
            value = getattr(self, field)
            if self.subspace is None and value != unset and (field, self.kind) not in _RANKED:
                what = f"found {shown(value)} beside {self.kind}, but only a subspace has a {field}"
                raise InvalidValue(what, "remove it, or write subspace: tasks", (field,))
        self._check_learned()
        if self.function_vector is None and self.heads is not None:
            what = f"found {shown(self.heads)} beside {self.kind}, but only a function vector has heads"
            raise InvalidValue(what, "remove it, or write function_vector: same_task", ("heads",))
        if self.function_vector is not None and self.heads is None:
            raise InvalidValue(
                "is missing, a function vector is a sum over heads", "add [[layer, head], …]", ("heads",)
            )
        return self

    def _check_learned(self) -> None:
        """What belongs to a learned vector stands beside one, and it takes all of its prompts."""
        field = unmeant(self.kind, self.model_fields_set, LEARNED_FIELDS)
        if field is not None:
            owners = " or ".join(kind for kind, fields in LEARNED.items() if field in fields)
            what = f"found {shown(getattr(self, field))} beside {self.kind}, but only {owners} has {field}"
            raise InvalidValue(what, "remove it", (field,))
        if self.is_learned and "only" in self.model_fields_set:
            what = f"found {shown(self.only)} beside {self.kind}, which is learned on all of its prompts"
            raise InvalidValue(what, "remove it", ("only",))
        if self.boundless and self.rank is None:
            what = "is missing, boundless learns how many dimensions are needed, up to a rank"
            raise InvalidValue(what, "add rank: 16", ("rank",))

    def _check_file(self) -> None:
        """What belongs to a file stands beside one, and nothing else does."""
        for field in ("key", "fitted_at"):
            read_elsewhere = field == "fitted_at" and (self.contrast or self.sae)
            if self.file is None and not read_elsewhere and getattr(self, field) is not None:
                what = f"found {shown(getattr(self, field))} beside {self.kind}, but only a file has a {field}"
                raise InvalidValue(what, "remove it, or write file: PATH", (field,))
        if self.file is None and self.contrast is None:
            return
        for field in _OF_FITS:
            if field in self.model_fields_set:
                why = "whose vector is fitted already" if self.file else "which uses every pair of its file"
                raise InvalidValue(
                    f"found {shown(getattr(self, field))} beside {self.kind}, {why}", "remove it", (field,)
                )
        if self.file is None:
            if self.fitted_at is not None and {*self.fitted_at.model_fields_set} != {"position"}:
                what = "may name the position in the texts alone: the layer and the site are the edit's own"
                raise InvalidValue(what, "write fitted_at: {position: last}", ("fitted_at",))
            return
        if not self.file.strip():
            raise InvalidValue("is empty", "give the path of a file, or hf://repo/path", ("file",))
        for name in re.findall(r"\{(.*?)\}", self.key or ""):
            if name not in PLACEHOLDERS:
                what = f"has {{{name}}} in it, a key may have {', '.join(f'{{{each}}}' for each in PLACEHOLDERS)}"
                raise InvalidValue(what, suggest(name, PLACEHOLDERS), ("key",))

    @model_serializer(mode="wrap")
    def _without_fits(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Of a file nothing is told of how it was fitted; of all others nothing of files, nor of dictionaries; of
        vectors that are not learned nothing of learning."""
        dumped = dump(self)
        given = self.file is not None or self.contrast is not None
        left_out = [*(_OF_FITS if given else ("file", "key", "fitted_at"))]
        left_out += ["l2"] if self.logistic is None else []
        left_out += ["method", "only"] if self.is_learned else []
        left_out += ["shots"] if self.as_evaluated else []
        if self.sae is None:
            left_out += OF_DICTIONARIES
        elif self.fitted_at is not None:
            left_out.remove("fitted_at")
        return of_kind(self.kind, {name: value for name, value in dumped.items() if name not in left_out})

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
