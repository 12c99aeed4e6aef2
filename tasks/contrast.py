"""Paired texts of a user's file, one of each pair with what a vector is to stand for and one without, as prompts."""

from __future__ import annotations

from pathlib import Path

from patchboard.errors import TaskError
from patchboard.tasks.chat import Chat
from patchboard.tasks.encode import Encoded, Encoder
from patchboard.tasks.pair_files import read_rows
from patchboard.tasks.pair_rows import Source
from patchboard.tasks.prompt import Prompt

SIDES = ("positive", "negative")
"""Keys of a pair in the file, and labels of its prompts."""
SUFFIXES = (".json", ".jsonl", ".csv", ".tsv")
_EXAMPLE = '{"positive": "… (A", "negative": "… (B"}'


def read_pairs(file: Path, where: str) -> list[tuple[str, str]]:
    """(positive, negative) of each row, in order. Raises TaskError at ``where``, which names the row or line."""
    if file.suffix.lower() not in SUFFIXES:
        what = f"'{file}' is no file of a known kind ({', '.join(SUFFIXES)})"
        raise TaskError(where, what, "rename it to the suffix that tells what it holds")
    rows = read_rows(file, Source(where, *SIDES, _EXAMPLE))
    for i, row in enumerate(rows):
        if row.more:
            raise TaskError(where, f"row {i} of '{file}' has several negative texts", "write a row for each")
    return [(row.input, row.output) for row in rows]


def contrast_prompts(
    pairs: list[tuple[str, str]], encoder: Encoder, where: str, chat: Chat | None = None
) -> dict[str, tuple[Prompt, ...]]:
    """Side -> a prompt for each pair, its text as it stands, or as the user's turn of a chat.

    Raises TaskError at ``where`` for a text that the tokenizer cannot read, SpecError as ``Chat``.
    """
    prompts = {}
    for side, label in enumerate(SIDES):
        texts = []
        for i, pair in enumerate(pairs):
            text = pair[side] if chat is None else chat.of_one_turn(pair[side])
            if text is None:
                what = f"the {label} text of pair {i} is changed by the chat template of the model's tokenizer"
                raise TaskError(where, what, "leave white space at its ends out, or prompts.chat")
            texts.append(text)
        coded = encoder.encode(texts)
        for i, one in enumerate(coded):
            if one.fault:
                raise TaskError(where, f"the {label} text of pair {i}: {one.fault}", "change it, or the model")
        prompts[label] = tuple(_prompt(label, text, one) for text, one in zip(texts, coded, strict=True))
    return prompts


def _prompt(label: str, text: str, coded: Encoded) -> Prompt:
    """The whole text is the prompt, and `last` its last token. It asks for no answer; a prompt has one, which is its
    last token again and never read."""
    last = len(coded.ids) - 1
    places = {"last": (last,), "all": tuple(range(len(coded.ids)))}
    return Prompt(label, text, "", tuple(coded.ids), (coded.ids[last],), places, frame=coded.frame)
