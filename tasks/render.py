"""Prompts as text, with where their fields stand: in a template's words, or as the turns of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patchboard.spec.prompts import TemplateSection
from patchboard.tasks.base import Item
from patchboard.tasks.chat import Chat


@dataclass(frozen=True)
class Fields:
    """A rendered prompt and where its fields stand, in characters."""

    text: str
    query: tuple[int, int]
    demo_inputs: list[tuple[int, int]]
    demo_outputs: list[tuple[int, int]]
    demo_ends: list[int]  # where each demonstration's input part ends, so its answer may begin
    spans: dict[str, tuple[int, int]]  # of the query's row, by name
    fault: str = ""


def placed(template: str, name: str, value: str, at: int) -> tuple[str, tuple[int, int]]:
    """The rendered template and the character span of ``value`` in the text that it is put into at ``at``."""
    before, after = template.split("{" + name + "}")
    start = at + len(before)
    return before + value + after, (start, start + len(value))


def render(template: TemplateSection, task: str, rows: Sequence[Item]) -> Fields:
    """The text of a prompt: all ``rows`` but the last with their answers under ``task``."""
    text = template.prefix.replace("{task}", task)
    inputs, outputs, ends = [], [], []
    for row in rows[:-1]:
        part, span = placed(template.input, "input", row.input, len(text))
        text += part
        inputs.append(span)
        ends.append(len(text))
        part, span = placed(template.output, "output", row.answers[task], len(text))
        text += part + template.separator
        outputs.append(span)
    part, query = placed(template.input, "input", rows[-1].input, len(text))
    spans = {name: (query[0] + start, query[0] + stop) for name, (start, stop) in rows[-1].spans.items()}
    return Fields(text + part, query, inputs, outputs, ends, spans)


def render_chat(chat: Chat, template: TemplateSection, task: str, rows: Sequence[Item]) -> Fields:
    """The same as a conversation: inputs as turns of the user, the first one behind the template's prefix, outputs as
    the assistant's. template: without white space around its parts, which stand at the ends of turns."""
    frame, turns = chat.frame(2 * len(rows) - 1), list[str]()
    prefix, text = template.prefix.replace("{task}", task), ""
    inputs, outputs, ends = [], [], []
    for i, row in enumerate(rows):
        text += frame[2 * i]
        start = len(text)
        part, span = placed(prefix + template.input, "input", row.input, start)
        text, prefix = text + part, ""
        turns.append(part)
        inputs.append(span)
        if i < len(rows) - 1:
            text += frame[2 * i + 1]
            ends.append(len(text))
            part, span = placed(template.output, "output", row.answers[task], len(text))
            text += part
            turns.append(part)
            outputs.append(span)
    text, query = text + frame[-1], inputs.pop()
    spans = {name: (query[0] + start, query[0] + stop) for name, (start, stop) in rows[-1].spans.items()}
    fault = "" if text == chat.rendered(turns) else "the chat template changes what stands in a turn"
    return Fields(text, query, inputs, outputs, ends, spans, fault)


def of_turns(template: TemplateSection) -> TemplateSection:
    """The template without white space at the ends of turns: many chat templates leave it out."""
    return TemplateSection(
        prefix=template.prefix.lstrip(), input=template.input.strip(), output=template.output.strip(),
        separator=template.separator,
    )  # fmt: skip
