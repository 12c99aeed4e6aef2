"""The spec's section on prompts: demonstrations, labels, and what text an example becomes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Count, Section, Seed, Shots
from patchboard.spec.values import shown


def _bos(value: Any) -> Any:
    if value != "auto" and not isinstance(value, bool):  # a Literal of True alone would take 1 for it
        raise InvalidValue(f"found {shown(value)}, expected auto, true or false", "write one of them, without quotes")
    return value


Bos = Annotated[Literal["auto", True, False], BeforeValidator(_bos)]
"""Whether a token for the beginning of the text stands in front of a prompt; auto: as the tokenizer has it."""


class TemplateSection(Section):
    """Text of a prompt: prefix; for each demonstration input, output, separator; the query's input."""

    prefix: str = Field(default="", description="before everything; may hold {task}, which states the task")
    input: str = Field(default="{input} ->", description="must hold {input}")
    output: str = Field(default=" {output}", description="must hold {output}")
    separator: str = Field(default="\n", description="after every demonstration")

    @model_validator(mode="after")
    def _holds_its_field(self) -> TemplateSection:
        for field in ("input", "output"):
            times = getattr(self, field).count("{" + field + "}")
            if times != 1:
                what = f"holds {{{field}}} {times} times, expected exactly once"
                raise InvalidValue(what, f"write '{{{field}}}' where the {field} belongs", (field,))
        return self


class PromptsSection(Section):
    shots: Shots = Field(default=4, description="demonstrations before the query")
    queries: Count = Field(default=100, description="evaluated prompts a task")
    demonstrations: Literal["fresh", "shared"] = Field(
        default="fresh",
        description="fresh: drawn anew for every query; shared: the same ones for all queries of a task, computed once",
    )
    labels: Literal["own", "shuffled"] = Field(
        default="own",
        description="of evaluated prompts; shuffled: each demonstration carries the output of another one",
    )
    corrupted: str | None = Field(
        default=None,
        description="a source of the task family (docs/tasks.md names them): its inputs are run in place of the rows'"
        " own, and the rows' answers asked for; the row as it was is then the source `base`",
    )
    seed: Seed = 0
    bos: Bos = Field(
        default="auto",
        description="what stands in front of every prompt; auto: what the tokenizer adds there; true: one token for the"
        " beginning of the text (`bos_token`); false: nothing",
    )
    template: TemplateSection = TemplateSection()
    chat: bool = Field(
        default=False,
        description="written as a conversation by the tokenizer's chat template: inputs are the user's turns, outputs"
        " the assistant's, see [chats](#chats)",
    )
    system: str | None = Field(default=None, description="of a chat: what stands before it as the system's turn")

    @model_serializer(mode="wrap")
    def _without_what_is_not_meant(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Fields of later versions are told where they say something: specs of before keep their digests, and their
        runs."""
        return {name: value for name, value in dump(self).items() if (name, value) not in _UNMEANT}

    @model_validator(mode="after")
    def _of_a_chat(self) -> PromptsSection:
        if self.system is not None and not self.chat:
            raise InvalidValue("stands without a chat", "add chat: true, or leave it out", ("system",))
        separator = TemplateSection.model_fields["separator"].default
        if self.chat and self.template.separator != separator:
            what = f"found {shown(self.template.separator)} beside chat, whose turns the chat template sets apart"
            raise InvalidValue(what, "leave it out", ("template", "separator"))
        return self

    @model_validator(mode="after")
    def _enough_to_shuffle(self) -> PromptsSection:
        if self.labels == "shuffled" and self.shots < 2:
            what = f"shuffled needs at least 2 demonstrations, shots is {self.shots}"
            raise InvalidValue(what, "use more shots, or labels: own", ("labels",))
        return self


_UNMEANT = (("corrupted", None), ("chat", False), ("system", None))
