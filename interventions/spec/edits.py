"""The spec's sections on edits: one, or several in an intervention; where, in which layers, by how much."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)

from patchboard.spec.keep import Keep
from patchboard.spec.path_patching import Frozen, ReceiverSection, SenderSection
from patchboard.spec.places import Heads, Layers, Neurons, Onwards, Position, Several, Upto, check_parts
from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Section, exactly_one
from patchboard.spec.sites import Site
from patchboard.spec.values import shown
from patchboard.spec.vectors import VectorSection

Align = Literal["first", "last", "all"]
Same = BeforeValidator(lambda value: None if value == "same" else value)
"""``same`` is what is meant where nothing is told."""


class SourceSection(Section):
    """Whose state is put in, and where it is read; a plain name means the same place of that prompt."""

    name: str = Field(
        description="same_task, other_task, null_task, a task's name, or a source that the task family's rows have;"
        " clean: the prompt itself, unedited"
    )
    layer: Annotated[Annotated[int, Field(ge=0)] | None, Same] = Field(
        default=None,
        description="the block that it is read from: same (as edited), or a fixed one; a later one takes one pass more",
    )
    site: Annotated[Site | None, Same] = Field(default=None, description="same, or another")
    position: Annotated[Position | None, Same] = Field(default=None, description="same, or tokens of the source's own")
    align: Align | None = Field(
        default=None,
        description="where the two positions have different numbers of tokens: first or last, that token of each; all,"
        " token by token, further tokens taking the source's last; none: refused",
    )

    @model_serializer(mode="wrap")
    def _as_short_as_written(self, dump: SerializerFunctionWrapHandler) -> Any:
        """A plain name where nothing else is told, as specs had it before there was more to tell."""
        told = {name: value for name, value in dump(self).items() if value is not None}
        return self.name if set(told) == {"name"} else told


def _spelled_source(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if value is None or isinstance(value, dict | SourceSection):
        return value
    raise InvalidValue(f"found {shown(value)}, expected a source", "write a name, or {name: …, position: …}")


Source = Annotated[
    SourceSection | None, BeforeValidator(_spelled_source, json_schema_input_type=str | SourceSection | None)
]


_FromTo = create_model(  # `from` is no name that a class can give a field
    "_FromTo",
    __base__=Section,
    **{  # pyright: ignore[reportArgumentType, reportCallIssue]
        "from": (Position, Field(description="tokens that are not attended to")),
        "to": (Position, Field(description="tokens that are kept from attending to them")),
    },
)


class Edges(_FromTo):
    """``{from: demo_outputs, to: last}``: attention of each ``to`` token to each ``from`` token before it."""

    @property
    def ends(self) -> tuple[Any, Any]:
        """(from, to), as the spec has them."""
        return getattr(self, "from"), self.to


class _OneEdit(Section):
    """The fields that an edit has, whether it stands alone or in a list."""

    vector: VectorSection | None = None
    source: Source = Field(
        default=None,
        description="whose state it takes, in place of a vector (of swap beside one): same_task, other_task, null_task,"
        " a task's name, a source of the task family, or clean; or a mapping that says where it is read. resample's"
        " default: other_task",
    )
    layers: Layers = "all"
    site: Site = "resid_post"
    heads: Heads = Field(
        default="all",
        description="of sites q, k, v, pattern and head, one cell a head; of edges, those in which they are cut",
    )
    neurons: Neurons = Field(default="all", description="of sites mlp_pre and mlp_act; edited together")
    edges: Edges | None = Field(default=None, description="of knock_out, in place of site, position and strength")
    position: Position = "last"
    sender: SenderSection | None = Field(
        default=None, description="of path, in place of site, layers, heads, neurons and position"
    )
    receivers: Annotated[list[ReceiverSection], Field(min_length=1)] | None = Field(
        default=None, description="of path: what takes the sender's change over; none: the logits, by the last token"
    )
    frozen: Frozen | None = Field(
        default=None,
        description="of path: what stays as in the clean run on the way from sender to receivers: heads (all attention;"
        " default), heads+mlps, none",
    )
    strength: float = Field(default=1.0, description="1 is the whole edit; see each op's formula")
    draw: Annotated[int, Field(ge=0)] = Field(
        default=0, description="of noise: the number of a draw; swept, the draws are replicates"
    )

    @model_validator(mode="after")
    def _parts_of_their_sites(self) -> Self:
        if self.edges is not None:
            for field in (*_NOT_OF_EDGES, "vector", "source", "sender", "receivers", "frozen"):
                if getattr(self, field) != type(self).model_fields[field].default:
                    what = f"found {shown(getattr(self, field))} beside edges, which are no states"
                    raise InvalidValue(what, "leave it out", (field,))
            return self
        if self.sender is not None:
            for field in _NOT_OF_PATHS:
                if getattr(self, field) != type(self).model_fields[field].default:
                    what = f"found {shown(getattr(self, field))} beside sender, which says where"
                    raise InvalidValue(what, f"write {field} in sender", (field,))
            return self
        for field in ("receivers", "frozen"):
            if getattr(self, field) is not None:
                raise InvalidValue("stands without a sender", "add sender: {site: head}, or leave it out", (field,))
        check_parts(self.site, self.heads, self.neurons)
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_meant(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A field of later versions is told where it says something: specs of before keep their digests."""
        unmeant = {name for name, value in _LATER.items() if getattr(self, name) == value}
        unmeant.update(_NOT_OF_EDGES if self.edges is not None else ())
        unmeant.update(_NOT_OF_PATHS if self.sender is not None else ())
        return {name: value for name, value in dump(self).items() if name not in unmeant}


_NOT_OF_EDGES = ("site", "neurons", "position", "strength", "draw")
_NOT_OF_PATHS = ("site", "layers", "heads", "neurons", "position")
_LATER: dict[str, Any] = {
    "neurons": "all", "edges": None, "sender": None, "receivers": None, "frozen": None, "draw": 0,
}  # fmt: skip
"""Fields that came later -> what they say where nothing is meant by them."""


class EditSection(_OneEdit):
    """One edit. ``layers`` and ``heads`` are axes in an intervention of one edit, sets in one of several."""

    op: str

    @property
    def made(self) -> EditSection:
        """What is edited first: the edit itself, of ``path`` its sender."""
        if self.sender is None:
            return self
        return EditSection(op="patch", source=self.source, strength=self.strength, **dict(self.sender))


def _one_set(layers: Any) -> None:
    """Raises InvalidValue where layers of an edit in ``edits`` are several sets of blocks."""
    if not isinstance(layers, Onwards | Upto):
        return
    ((key, value),) = layers.model_dump().items()
    if not isinstance(value, int) and not (isinstance(value, list) and len(value) == 1):
        what = f"found {shown(value)}, expected one block: in edits, layers are one set and no axis"
        raise InvalidValue(what, f"write {{{key}: 5}}, or {{together: …}}", ("layers", key))


class InterventionSection(_OneEdit):
    """Either the fields of one edit, or ``edits``, a list of them made in one cell."""

    model_config = ConfigDict(json_schema_extra=exactly_one("op", "edits"))

    op: str | None = None
    keep: Keep | None = Field(
        default=None,
        description="of site head: one cell, which edits all heads of the layers but the first of a ranking",
    )
    edits: Annotated[list[EditSection], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _op_or_edits(self) -> InterventionSection:
        if self.op is None and self.edits is None:
            raise InvalidValue("has neither op nor edits", "add op: patch (`patchboard ls` lists all ops)")
        if self.edits is not None and self.keep is not None:
            raise InvalidValue("stands beside edits", "write one op beside it, made at all other heads", ("keep",))
        if self.edits is not None and self.model_fields_set - {"edits"}:
            extra = ", ".join(sorted(self.model_fields_set - {"edits"}))
            raise InvalidValue(f"has {extra} beside edits", f"move {extra} into each of the edits")
        if self.keep is not None and (self.site != "head" or isinstance(self.layers, Several)):
            field = "layers" if self.site == "head" else "site"
            what = f"found {shown(getattr(self, field))} beside keep, which is of single heads in a list of layers"
            raise InvalidValue(what, "write site: head, and layers: all or a list", (field,))
        for i, edit in enumerate(self.edits or ()):
            try:
                _one_set(edit.layers)
            except InvalidValue as refusal:
                raise refusal.inside("edits", i) from None
        return self

    @cached_property
    def parts(self) -> tuple[EditSection, ...]:
        """The edits, one or several."""
        if self.edits is not None:
            return tuple(self.edits)
        assert self.op is not None
        return (EditSection(op=self.op, **{name: getattr(self, name) for name in _OneEdit.model_fields}),)
