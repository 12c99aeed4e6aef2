"""Readers of tagged sentences: CoNLL-U files, Hub datasets, and the package's own list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interventions.errors import TaskError

UNIVERSAL = {
    "NOUN": "noun", "ADJ": "adjective", "VERB": "verb", "ADV": "adverb", "ADP": "preposition", "PRON": "pronoun",
}  # fmt: skip
"""Universal tag -> task. PROPN is no noun and AUX no verb here: their first words are rarely what "the
first noun" or "the first verb" of a sentence means."""

PENN = {
    "NN": "noun", "NNS": "noun", "JJ": "adjective", "JJR": "adjective", "JJS": "adjective",
    "VB": "verb", "VBD": "verb", "VBG": "verb", "VBN": "verb", "VBP": "verb", "VBZ": "verb",
    "RB": "adverb", "RBR": "adverb", "RBS": "adverb", "IN": "preposition",
    "PRP": "pronoun", "PRP$": "pronoun", "WP": "pronoun", "WP$": "pronoun",
}  # fmt: skip


@dataclass(frozen=True)
class Sentence:
    """Words with their tags (a task's name, or ``other``), and the sentence as running text."""

    words: tuple[tuple[str, str], ...]
    text: str


def task_of(tag: str) -> str:
    """The task that a universal or Penn tag belongs to, ``other`` if none."""
    return UNIVERSAL.get(tag.upper()) or PENN.get(tag.upper()) or "other"


def read_treebank(path: Path) -> list[Sentence]:
    """All sentences of a CoNLL-U file. Raises TaskError.

    Contracted words ("don't" = 2-3) stand in the text as one surface word of no single tag, so
    they and their parts belong to no task; empty nodes (5.1) are left out.
    """
    import conllu

    try:
        text = path.read_text(encoding="utf-8")
        parsed = conllu.parse(text)
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(str(path), f"cannot be read ({error})", "give the path of a CoNLL-U file") from None
    except conllu.exceptions.ParseException as error:
        raise TaskError(str(path), f"is not CoNLL-U ({str(error).splitlines()[0]})", "give a CoNLL-U file") from None
    sentences = [_sentence(tokens) for tokens in parsed]
    if not sentences:
        raise TaskError(str(path), "holds no sentence", "give a CoNLL-U file")
    return sentences


def _sentence(tokens: Any) -> Sentence:
    words: list[tuple[str, str]] = []
    covered: set[int] = set()
    spaced = ""
    for token in tokens:
        number = token["id"]
        if isinstance(number, tuple):
            if number[1] != "-":
                continue
            covered |= set(range(number[0], number[2] + 1))
            tag = "other"
        elif number in covered:
            continue
        else:
            tag = UNIVERSAL.get(token["upos"] or "", "other")
        words.append((token["form"], tag))
        glued = (token["misc"] or {}).get("SpaceAfter") == "No"
        spaced += token["form"] + ("" if glued else " ")
    return Sentence(tuple(words), spaced.strip())


def read_hub(section: Any) -> list[Sentence]:
    """All sentences of a dataset's split; tags as text or as class labels. Raises TaskError."""
    from datasets import ClassLabel, load_dataset
    from datasets.exceptions import DatasetsError

    try:
        data = load_dataset(section.name, section.config, split=section.split)
    except (DatasetsError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise TaskError("tasks.dataset.name", f"'{section.name}' cannot be loaded ({first})", "check name, config, split") from None
    for field, column in (("words", section.words), ("tags", section.tags)):
        if column not in data.column_names:
            columns = ", ".join(data.column_names)
            raise TaskError(f"tasks.dataset.{field}", f"there is no column '{column}'", f"choose one of {columns}")
    feature = getattr(data.features[section.tags], "feature", None)
    name = feature.int2str if isinstance(feature, ClassLabel) else str
    return [
        Sentence(tuple((w, task_of(name(t))) for w, t in zip(words, tags, strict=True)), " ".join(words))
        for words, tags in zip(data[section.words], data[section.tags], strict=True)
    ]


def read_sentences(path: Path) -> list[Sentence]:
    """The package's sentences: a line each, ``word/TAG word/TAG …`` with universal tags."""
    sentences = []
    for line in path.read_text(encoding="utf-8").splitlines():
        pairs = [token.rsplit("/", 1) for token in line.split()]
        text = ""
        for word, tag in pairs:
            text += word if tag == "PUNCT" or not text else " " + word
        sentences.append(Sentence(tuple((word, task_of(tag)) for word, tag in pairs), text))
    return sentences
