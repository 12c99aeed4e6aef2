"""Tagged sentences from elsewhere: a CoNLL-U file, or a data set with a column of words and one of tags.

CoNLL-U (universaldependencies.org/format) splits "I'm" into two words and keeps the written form as a
range ("3-4"); empty nodes ("5.1") stand for words that are not written. What is written counts here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from conllu import parse_incr
from conllu.exceptions import ParseException

from interventions.errors import TaskError
from interventions.user_paths import expanded
from tasks.hub import class_names, load_rows
from tasks.sentences import Sentence, Word, tag_of

_Written = list[tuple[str, list[str]]]
"""Written tokens in order, each with the tags of the words that it is made of."""


def read_conllu(path: str) -> Iterator[Sentence]:
    """All sentences of a CoNLL-U file. Raises TaskError where it cannot be read as one."""
    number = 1
    try:
        with open(expanded(path), encoding="utf-8") as file:
            for tokens in parse_incr(file, fields=("id", "form", "lemma", "upos")):
                yield as_written(_written(tokens), tokens.metadata.get("text") or "")
                number += 1
    except OSError as error:
        raise TaskError(
            "tasks.treebank", f"'{path}' cannot be read ({error.strerror})", "give the path of a CoNLL-U file"
        ) from None
    except UnicodeDecodeError:
        raise TaskError("tasks.treebank", f"'{path}' is not UTF-8 text", "give a CoNLL-U file") from None
    except (ParseException, KeyError) as error:
        raise TaskError(
            "tasks.treebank",
            f"'{path}' is not CoNLL-U at sentence {number} ({error})",
            "give a file of ten tab-separated columns, sentences apart by empty lines",
        ) from None


def _written(tokens: Sequence[Any]) -> _Written:
    written: _Written = []
    covered = 0  # last word of the range that is being read
    for token in tokens:
        match token["id"]:
            case (_, "-", last):
                covered = last
                written.append((token["form"], []))
            case int(number) if number <= covered:
                written[-1][1].append(tag_of(token["upos"]))
            case int():
                written.append((token["form"], [tag_of(token["upos"])]))
    return written


def as_written(tokens: _Written, text: str) -> Sentence:
    """Tokens put together as the running ``text`` shows them, or apart by spaces where it is another text."""
    forms = [form for form, _ in tokens]
    starts = _starts(text, forms)
    if starts is None:
        text = " ".join(forms)
        starts = _starts(text, forms)
        assert starts is not None
    ends = [start + len(form) for start, form in zip(starts, forms, strict=True)]
    cuts = [0, *(i for i in range(1, len(starts)) if starts[i] > ends[i - 1]), len(starts)]
    groups = [list(range(a, b)) for a, b in pairwise(cuts)]
    words = []
    for group in groups:
        lettered = [i for i in group if any(c.isalnum() for c in forms[i])]
        if lettered:
            tags = [tag for i in lettered for tag in tokens[i][1]]
            words.append(Word(text[starts[lettered[0]] : ends[lettered[-1]]], tuple(tags)))
    return Sentence(text, tuple(words))


def _starts(text: str, forms: Sequence[str]) -> list[int] | None:
    """Where each form begins, if ``text`` is these forms in order with at most white space between."""
    at, starts = 0, []
    for form in forms:
        while text[at : at + 1].isspace():
            at += 1
        if not text.startswith(form, at):
            return None
        starts.append(at)
        at += len(form)
    return None if text[at:].strip() else starts


def read_dataset(
    name: str, config: str | None, split: str, words: str, tags: str, revision: str | None = None,
    text: str | None = None,
) -> Iterator[Sentence]:  # fmt: skip
    """All rows of a data set (a Hub name or a local folder) as sentences.

    words: column of lists of words. tags: column of lists of tags, as text or as a ClassLabel, universal
    or Penn. text: column of the running text; without it, and in rows where it does not hold the words in their
    order, they stand apart by spaces. Raises TaskError where the data set cannot be had or has no such columns.
    """
    columns = {"words": words, "tags": tags} | ({} if text is None else {"text": text})
    rows = load_rows(name, config, revision, split, columns)
    labels = class_names(rows, tags)
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
        yield as_written([(_whole(form), [tag_of(tag)]) for form, tag in zip(forms, named, strict=True)], running)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _whole(form: str) -> str:
    """White space inside a word would make two of it in the running text."""
    return "_".join(form.split())
