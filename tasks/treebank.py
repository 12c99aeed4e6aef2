"""Tagged sentences from elsewhere: a CoNLL-U file, or a data set with a column of words and one of tags.

CoNLL-U (universaldependencies.org/format) splits "I'm" into two words and keeps the written form as a
range ("3-4"); empty nodes ("5.1") stand for words that are not written. What is written counts here. A tag is
universal (UPOS) or, where that column is empty, Penn (XPOS).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from patchboard.errors import TaskError
from patchboard.extras import require_extra
from patchboard.tasks.hub import class_names, load_rows
from patchboard.tasks.written import Read, Tokens, Words, no_tag, read_as
from patchboard.user_paths import expanded

_FIELDS = ("id", "form", "lemma", "upos", "xpos", "features", "governor", "relation", "dependencies", "misc")
"""The ten columns; those that are not read have names that conllu has no parser for."""


def read_conllu(path: str, words: Words = "auto") -> Read:
    """All sentences of a CoNLL-U file. Raises TaskError where it cannot be read as one."""
    require_extra("treebanks", TaskError, "tasks.treebank", f"'{path}'")
    from conllu import parse_incr
    from conllu.exceptions import ParseException

    sentences: list[tuple[Tokens, str]] = []
    try:
        with open(expanded(path), encoding="utf-8-sig") as file:
            for tokens in parse_incr(file, fields=_FIELDS):
                sentences.append((_written(tokens), tokens.metadata.get("text") or _spaced(tokens)))
    except OSError as error:
        raise TaskError(
            "tasks.treebank",
            f"'{path}' cannot be read ({error.strerror})",
            "give the path of a CoNLL-U file",
        ) from None
    except UnicodeDecodeError:
        raise TaskError("tasks.treebank", f"'{path}' is not UTF-8 text", "give a CoNLL-U file") from None
    except (ParseException, KeyError) as error:
        raise TaskError(
            "tasks.treebank",
            f"'{path}' is not CoNLL-U at sentence {len(sentences) + 1} ({error})",
            "give a file of ten tab-separated columns, sentences apart by empty lines",
        ) from None
    return read_as(words, sentences)


def _written(tokens: Sequence[Any]) -> Tokens:
    written: Tokens = []
    covered = 0  # last word of the range that is being read
    for token in tokens:
        match token["id"]:
            case (_, "-", last):
                covered = last
                written.append((token["form"], []))
            case int(number) if number <= covered:
                written[-1][1].append(_tag(token))
            case int():
                written.append((token["form"], [_tag(token)]))
    return written


def _tag(token: Any) -> str | None:
    return token.get("xpos") if no_tag(token["upos"]) else token["upos"]


def _spaced(tokens: Sequence[Any]) -> str:
    """The running text of a sentence that names none: its tokens apart by spaces but for SpaceAfter=No."""
    text, covered = "", 0
    for token in tokens:
        number = token["id"]
        if isinstance(number, tuple) and number[1] == "-":
            covered = number[2]
        elif not isinstance(number, int) or number <= covered:
            continue
        text += token["form"] + " " * ((token.get("misc") or {}).get("SpaceAfter") != "No")
    return text.strip()


def read_dataset(
    name: str, config: str | None, split: str, words: str, tags: str, revision: str | None = None,
    text: str | None = None, kind: Words = "auto",
) -> Read:  # fmt: skip
    """All rows of a data set (a Hub name or a local folder) as sentences.

    words: column of lists of words. tags: column of lists of tags, as text or as a ClassLabel, universal
    or Penn. text: column of the running text; without it, and in rows where it does not hold the words in their
    order, they stand apart by spaces. kind: what is a word. Raises TaskError where the data set
    cannot be had or has no such columns.
    """
    columns = {"words": words, "tags": tags} | ({} if text is None else {"text": text})
    rows = load_rows(name, config, revision, split, columns)
    labels = class_names(rows, tags)
    sentences: list[tuple[Tokens, str]] = []
    for i, row in enumerate(rows):
        forms, named = row[words], row[tags]
        if labels and isinstance(named, list):
            named = [labels[tag] for tag in named]
        if not _texts(forms) or not _texts(named):
            raise TaskError(
                "tasks.dataset",
                f"row {i} of '{name}' has no words as text in '{words}' beside named tags in '{tags}'",
                "name the columns of words and of universal or Penn tags",
            )
        if len(forms) != len(named):
            what = f"row {i} of '{name}' has {len(forms)} words and {len(named)} tags"
            raise TaskError("tasks.dataset", what, "mend the data set")
        running = "" if text is None else row[text]
        if not isinstance(running, str):
            what = f"row {i} of '{name}' has no text in '{text}'"
            raise TaskError("tasks.dataset.text", what, "name the column of running text, or leave it out")
        sentences.append(([(_whole(form), [tag]) for form, tag in zip(forms, named, strict=True)], running))
    return read_as(kind, sentences)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _whole(form: str) -> str:
    """White space inside a word would make two of it in the running text."""
    return "_".join(form.split())
