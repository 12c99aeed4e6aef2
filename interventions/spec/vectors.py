"""The spec's section on a vector: what an edit writes or removes. Kinds of vector are fitters', one a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from patchboard.registry import Registry, suggest
from patchboard.spec.dictionaries import OF_DICTIONARIES, check_dictionary
from patchboard.spec.head_pairs import HeadPairs
from patchboard.spec.places import Position
from patchboard.spec.refusal import InvalidValue, only_once
from patchboard.spec.section import Count, Differing, Section, Shots, exactly_one
from patchboard.spec.sites import Site
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
)  # fmt: skip
"""Kinds that are fields of the section; those of plug-ins are read as fields too, by the registry."""

_OF_FITS = ("method", "shots", "prompts", "only")
"""Fields that say how a vector is fitted, of which one from a file has none."""
PLACEHOLDERS = ("task", "layer", "head")
"""What a key may leave open, in braces."""


class FittedAtSection(Section):
    """Where a file's vector was fitted, or a dictionary trained, in so far as that is another place than the edit's."""

    layer: Annotated[int, Field(ge=0)] | None = Field(default=None, description="the block; none: the edit's own")
    site: Site | None = Field(default=None, description="none: the edit's own")
    position: Position | None = Field(default=None, description="none: the edit's own")
    model: str | None = Field(default=None, description="of a dictionary: the model as its cfg.json calls it")

    @model_serializer(mode="wrap")
    def _as_short_as_written(self, dump: SerializerFunctionWrapHandler) -> Any:
        told = {name: value for name, value in dump(self).items() if value is not None}
        return self.layer if set(told) == {"layer"} else told


def _spelled_place(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"layer": value}
    if value is None or isinstance(value, dict | FittedAtSection):
        return value
    raise InvalidValue(f"found {shown(value)}, expected a layer", "write a number, or {layer: …, position: …}")


FittedAt = Annotated[
    FittedAtSection | None, BeforeValidator(_spelled_place, json_schema_input_type=int | FittedAtSection | None)
]


class VectorSection(Section):
    """What an edit writes or removes, fitted on prompts that share no row with the evaluated ones."""

    model_config = ConfigDict(extra="allow", json_schema_extra=exactly_one(*VECTOR_KINDS))

    mean: str | None = Field(default=None, description="same_task, other_task, null_task, all_tasks, or a task's name")
    difference: Annotated[list[str], Field(min_length=2, max_length=2), Differing] | None = Field(
        default=None, description="[a, b]: mean of a minus mean of b, each as under `mean`"
    )
    mass_mean: Annotated[list[str], Field(min_length=2, max_length=2), Differing] | None = Field(
        default=None, description="[a, b]: their difference, through the inverse covariance within both"
    )
    logistic: Annotated[list[str], Field(min_length=2, max_length=2), Differing] | None = Field(
        default=None, description="[a, b]: the weights of a logistic regression between them"
    )
    l2: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="of a logistic regression: its penalty, where states have a root mean square of 1"
    )
    subspace: Literal["tasks"] | None = Field(
        default=None, description="tasks: the space in which the tasks' states differ"
    )
    pca: str | None = Field(
        default=None, description="the principal directions of states, of same_task or another source, as under `mean`"
    )
    function_vector: str | None = Field(
        default=None, description="summed outputs of `heads`; of same_task or another source, as under `mean`"
    )
    contrast: str | None = Field(
        default=None,
        description="a .json, .jsonl, .csv or .tsv file of paired texts, each row a positive and a negative one; or"
        " hf://repo/path. All of its pairs are used",
    )
    sae: str | None = Field(
        default=None,
        description="weights of a sparse autoencoder with cfg.json beside them (SAELens), or Gemma Scope's params.npz;"
        " perhaps with {layer} in the path; or hf://repo/path",
    )
    features: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), Differing] | None = Field(
        default=None, description="of sae: which of its features, by number from 0"
    )
    select: Annotated[list[str], Field(min_length=2, max_length=2), Differing] | None = Field(
        default=None,
        description="[a, b], of sae in place of features: those whose mean activation differs most between a and b,"
        " each as under `mean`",
    )
    top: Count | None = Field(default=None, description="of select: how many features")
    by: Literal["size", "rise", "fall"] | None = Field(
        default=None,
        description="of select: which come first: size (default): the largest differences, up or down; rise: the most"
        " active in a beside b; fall: the least",
    )
    value: float | None = Field(
        default=None,
        description="of clamp_features: to what, in units of each feature's largest activation over the fit prompts;"
        " default 1",
    )
    file: str | None = Field(
        default=None,
        description="a file with the vector, or hf://repo/path: vectors.safetensors of a run, another .safetensors,"
        " .npz, .pt, or a control vector's .gguf",
    )
    key: str | None = Field(
        default=None,
        description="the tensor in the file, perhaps with {task}, {layer} and {head} in it; may be left out where the"
        " file has only one, and of a control vector",
    )
    fitted_at: FittedAt = Field(
        default=None,
        description="of a file: the layer that its vector is of, where that is another one than the edit's; or a"
        " mapping of layer, site and position. Of contrast {position: last}: where in the texts it is fitted. Of sae"
        " where the dictionary was trained, and the position of the fit prompts that it is read at",
    )
    heads: HeadPairs = Field(default=None, description="of a function vector: [layer, head] pairs")
    method: Literal["pca", "leace"] = Field(default="pca", description="of a subspace: PCA of the task means, or LEACE")
    rank: Count | None = Field(default=None, description="of a subspace; default: number of labels - 1, of pca 1")
    shots: Shots = Field(default=8, description="demonstrations of a fit prompt")
    prompts: Count = Field(default=100, description="fit prompts a task")
    only: Literal["correct", "all"] = Field(default="correct", description="fit prompts to use; Null always uses all")

    @property
    def kind(self) -> str:
        """The one field that says what it is."""
        return self._kinds()[0]

    @property
    def sources(self) -> list[str]:
        """Whose prompts it is fitted on, as the spec names them; none of a kind that takes all tasks', and of a file
        whose key is the same for each."""
        value = getattr(self, self.kind)
        if self.contrast is not None:
            return []
        if self.sae is not None:
            return list(self.select or ())
        if self.file is not None:
            return ["same_task"] if "{task}" in (self.key or "") else []
        if self.kind == "subspace" or (self.kind in KINDS and KINDS[self.kind].takes == "tasks"):
            return []
        return list(value) if isinstance(value, list) else [value]

    @property
    def options(self) -> dict[str, Any]:
        """The fields of a plug-in's kind beside its own, defaults filled in."""
        if self.logistic is not None:
            return {"l2": self.l2}
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
            if self.subspace is None and value != unset and (field, self.kind) != ("rank", "pca"):
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
        """Of a file nothing is told of how it was fitted; of all others nothing of files, nor of dictionaries."""
        dumped = dump(self)
        given = self.file is not None or self.contrast is not None
        unmeant = [*(_OF_FITS if given else ("file", "key", "fitted_at"))]
        unmeant += ["l2"] if self.logistic is None else []
        if self.sae is None:
            unmeant += OF_DICTIONARIES
        elif self.fitted_at is not None:
            unmeant.remove("fitted_at")
        return {name: value for name, value in dumped.items() if name not in unmeant}

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
