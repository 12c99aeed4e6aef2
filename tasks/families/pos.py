"""Parts of speech: a sentence, and its first noun, adjective, verb, adverb, preposition or pronoun
(arXiv 2412.12276, section 4). Null answers are a random word of the sentence.

Only sentences that hold all six tags take part, so that every task is asked about the same inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from patchboard.errors import TaskError
from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Section
from patchboard.tasks import grammar
from patchboard.tasks.base import FAMILIES, NULL, Item
from patchboard.tasks.files import sha256_of
from patchboard.tasks.hub import HubOptions, local_files
from patchboard.tasks.sentences import TAG_NAMES, TAGS, Corpus, Sentence, TagCounts, Word, shipped
from patchboard.tasks.written import Read, Words
from patchboard.user_paths import expanded

GENERATED = 4000
"""Sentences of the pool that the grammar yields; it can yield many millions."""

Source = Literal["grammar", "sentences", "treebank", "hub"]


class DatasetOptions(HubOptions):
    """A data set of words and tags, read with the `datasets` library."""

    words: str = Field(description="column of lists of words")
    tags: str = Field(description="column of lists of universal or Penn tags, text or ClassLabel")
    text: str | None = Field(
        None, description="column of the running text, which shows what is one word (don't); else words apart by spaces"
    )


REAL_TEXT = DatasetOptions(
    name="commul/universal_dependencies", revision="2.17", config="en_ewt", words="tokens", tags="upos", text="text"
)
"""What ``source: hub`` reads where no data set is given: the English Web Treebank, 12,544 sentences of its train part.

The older universal-dependencies/universal_dependencies is a loading script, which `datasets` 4 refuses; this one holds
parquet. Its columns are those that its generator writes (github.com/bot-zen/ud-hf-parquet-tools).
"""


class PosOptions(Section):
    source: Source | None = Field(
        None,
        description="grammar: generated, the embedded model's default; sentences: shipped, any other's; hub: English"
        " Web Treebank, if no dataset is given (the network is needed once)",
    )
    treebank: str | None = Field(None, description="path of a CoNLL-U file; implies source: treebank")
    dataset: DatasetOptions | None = Field(None, description="implies source: hub")
    words: Words = Field(
        "auto",
        description="of a treebank or dataset: written: what stands between spaces; tokens: each token; auto: tokens"
        " where fewer than half of neighbouring ones are apart by a space, as in Chinese",
    )

    @model_validator(mode="after")
    def _one_source(self) -> PosOptions:
        sources = [name for name in ("treebank", "dataset") if getattr(self, name) is not None]
        if len(sources) == 2:
            raise ValueError("has both treebank and dataset, expected one source; leave one out")
        read = {"treebank": "treebank", "hub": "dataset"}.get(self.source or "")
        if self.source is not None and sources and sources != [read]:
            raise ValueError(f"source {self.source} does not read {sources[0]}; leave one of the two out")
        if self.source == "treebank" and not sources:
            raise ValueError("source treebank needs treebank; give it")
        if self.words != "auto" and not sources and self.source != "hub":
            what = f"found {self.words}, but only a treebank or a dataset has tokens to choose from"
            raise InvalidValue(what, "give one, or leave it out", ("words",))
        return self

    def chosen(self, embedded: bool) -> Source:
        """The source meant, with the default for the kind of model."""
        if self.treebank is not None:
            return "treebank"
        if self.dataset is not None:
            return "hub"
        return self.source or ("grammar" if embedded else "sentences")


@FAMILIES.register("pos")
class PartsOfSpeech:
    """Sentences under the six tags; a corpus is read when it is first asked for."""

    Options = PosOptions

    def __init__(self, tasks: Sequence[str], source: Source, options: PosOptions):
        self.tasks = tuple(tasks)
        self.source: Source = source
        self.options = options

    @classmethod
    def task_names(cls, options: PosOptions) -> tuple[str, ...]:
        return TAGS

    @classmethod
    def build(cls, options: PosOptions, tasks: tuple[str, ...], embedded: bool) -> PartsOfSpeech:
        """Raises TaskError where there is no such treebank; its text is read by ``pool``."""
        path = options.treebank
        if path is not None and not expanded(path).is_file():
            raise TaskError("tasks.treebank", f"'{path}' is no file", "give the path of a CoNLL-U file")
        return cls(tasks, options.chosen(embedded), options)

    @cached_property
    def corpus(self) -> Corpus:
        """The usable sentences of a source that is not generated. Raises TaskError where there is none."""
        if self.source == "sentences":
            return Corpus.of(shipped())
        read = self._read
        corpus = Corpus.of(read)
        if not corpus.sentences:
            why = "; ".join(f"{count} {reason}" for reason, count in corpus.excluded.items()) or "it is empty"
            why += f"; {read.untagged} of {read.tags} words have no tag" * (read.untagged > 0)
            never = [tag for tag in TAGS if not corpus.tags[tag].sentences]
            if 0 < len(never) < len(TAGS):
                why += f"; none has a word tagged {', '.join(never)}"
            bank = self.source == "treebank"
            raise TaskError(
                "tasks.treebank" if bank else "tasks.dataset",
                f"none of the {corpus.read} sentences of '{self._name}' holds all six parts of speech ({why})",
                f"give a larger one, with universal{' (UPOS)' * bank} or Penn{' (XPOS)' * bank} tags",
            )
        return corpus

    @property
    def _name(self) -> str:
        return self.options.treebank or self.dataset.name

    @cached_property
    def _read(self) -> Read:
        """What a source outside of the package holds. Raises TaskError where it cannot be read."""
        # conllu is wanted by those who read a treebank only
        from patchboard.tasks.treebank import read_conllu, read_dataset

        if self.source == "treebank":
            assert self.options.treebank is not None
            return read_conllu(self.options.treebank, self.options.words)
        return read_dataset(**self.dataset.model_dump(), kind=self.options.words)

    @property
    def dataset(self) -> DatasetOptions:
        """What ``source: hub`` reads."""
        return self.options.dataset or REAL_TEXT

    def data_files(self) -> Sequence[Path]:
        if self.source == "hub":
            return local_files(self.dataset.name)
        return () if self.options.treebank is None else (expanded(self.options.treebank),)

    def pool(self, seed: int) -> Sequence[Item]:
        """One item a sentence. Generated sentences depend on the seed, and so do Null's answers."""
        rng = np.random.default_rng([seed, 0x905])
        sentences = _generated(rng) if self.source == "grammar" else self.corpus.sentences
        return [self._item(sentence, int(rng.integers(len(sentence.words)))) for sentence in sentences]

    def _item(self, sentence: Sentence, chance: int) -> Item:
        answers = {}
        for task in self.tasks:
            word = sentence.words[chance] if task == NULL else sentence.first(task)
            assert word is not None, "a sentence without the tag is no part of a corpus"
            answers[task] = word.form
        return Item(sentence.text, answers)

    def describe(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"family": "pos", "source": self.source}
        if self.source == "grammar":
            # what each pool holds, whatever its seed: a sentence has all tags, its words one each
            tags = {tag: asdict(TagCounts(GENERATED, len(words), 0)) for tag, words in grammar.LEXICON.items()}
            return {**facts, "sentences_read": GENERATED, "sentences_kept": GENERATED, "excluded": {}, "by_tag": tags}
        if self.options.treebank is not None:
            facts |= {"file": self.options.treebank, "sha256": sha256_of(self.options.treebank)}
        if self.source == "hub":
            facts["dataset"] = self.dataset.model_dump()
        if self.source != "sentences":
            facts |= {"word": self._read.words, "tokens_apart": self._read.apart}
        facts["tags"] = {task: list(names) for task, names in TAG_NAMES.items()}
        return {**facts, **self.corpus.describe()}


def _generated(rng: np.random.Generator) -> list[Sentence]:
    """Different sentences of the grammar, as many as a pool holds."""
    sentences: dict[str, Sentence] = {}
    while len(sentences) < GENERATED:
        words = grammar.sentence(rng)
        text = " ".join(form for form, _ in words)
        sentences[text] = Sentence(text, tuple(Word(form, (tag,)) for form, tag in words))
    return list(sentences.values())
