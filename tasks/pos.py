"""Parts of speech: give the sentence's first noun, adjective, verb, … (arXiv 2412.12276, section 4).

Every sentence holds all six tags, so that each sentence has an answer under each task. Null answers
are random words of the sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from interventions.errors import SpecError, TaskError
from interventions.spec.sections import Section
from tasks.base import FAMILIES, NULL, Item
from tasks.grammar import LEXICON, sentence
from tasks.treebank import Sentence, read_hub, read_sentences, read_treebank

TAGS = tuple(LEXICON)
_GENERATED = 4000
_LONGEST = 40
"""Words of a sentence at most: longer ones make long prompts and are rare."""


class HubSection(Section):
    """A dataset of tagged sentences, from the Hub or a local folder."""

    name: str
    config: str | None = None
    split: str = "train"
    words: str = Field("tokens", description="column of words")
    tags: str = Field("pos_tags", description="column of universal or Penn tags")


@FAMILIES.register("pos")
class PartsOfSpeech:
    """Sentences as (word, tag) lists, from one of four sources."""

    class Options(Section):
        source: Literal["grammar", "sentences", "treebank", "hub"] | None = Field(
            None, description="default: what is given below; else grammar for the embedded model, sentences for others"
        )
        treebank: str | None = Field(None, description="a CoNLL-U file")
        dataset: HubSection | None = None

    def __init__(self, source: str, tasks: tuple[str, ...], sentences: Sequence[Sentence] = ()):
        self.source, self.tasks = source, tasks
        self.read = len(sentences)
        self.kept, self.excluded = _usable(sentences)

    @classmethod
    def task_names(cls, options: Options) -> tuple[str, ...]:
        return TAGS

    @classmethod
    def build(cls, options: Options, tasks: tuple[str, ...], embedded: bool) -> PartsOfSpeech:
        source = options.source or (
            "treebank" if options.treebank else "hub" if options.dataset else "grammar" if embedded else "sentences"
        )
        if source == "grammar":
            return cls(source, tasks)
        if source == "sentences":
            return cls(source, tasks, read_sentences(Path(__file__).parent / "data" / "sentences.txt"))
        if source == "treebank":
            if options.treebank is None:
                raise SpecError("tasks.treebank", "is missing", "give the path of a CoNLL-U file")
            where, found = options.treebank, read_treebank(Path(options.treebank))
        else:
            if options.dataset is None:
                raise SpecError("tasks.dataset", "is missing", "give {name: …, words: …, tags: …}")
            where, found = options.dataset.name, read_hub(options.dataset)
        family = cls(source, tasks, found)
        if not family.kept:
            raise TaskError(where, f"none of its {len(found)} sentences holds all six tags", "give other text")
        return family

    def pool(self, seed: int) -> Sequence[Item]:
        rng = np.random.default_rng([seed, 0x905])
        if self.source == "grammar":
            words = {tuple(sentence(rng)): None for _ in range(_GENERATED)}
            sentences = [Sentence(tuple(s), " ".join(w for w, _ in s)) for s in words]
        else:
            sentences = self.kept
        return [self._item(s, rng) for s in sentences]

    def _item(self, sentence: Sentence, rng: np.random.Generator) -> Item:
        tagged = [(word, tag) for word, tag in sentence.words if tag != "other"]
        answers = {task: next(w for w, tag in tagged if tag == task) for task in self.tasks if task != NULL}
        if NULL in self.tasks:
            spoken = [word for word, tag in sentence.words if any(c.isalpha() for c in word)]
            answers[NULL] = spoken[rng.integers(len(spoken))]
        return Item(sentence.text, answers)

    def describe(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"family": "pos", "source": self.source}
        if self.source != "grammar":
            words = Counter(tag for s in self.kept for _, tag in s.words if tag != "other")
            facts |= {"sentences read": self.read, "kept": len(self.kept), "left out": self.excluded, "words": dict(words)}
        return facts


def _usable(sentences: Sequence[Sentence]) -> tuple[list[Sentence], dict[str, int]]:
    """Sentences that hold all six tags, are not too long and differ; and how many were left out, by reason."""
    kept: dict[str, Sentence] = {}
    why: Counter[str] = Counter()
    for s in sentences:
        missing = set(TAGS) - {tag for _, tag in s.words}
        if missing:
            why[f"no {sorted(missing)[0]}"] += 1
        elif len(s.words) > _LONGEST:
            why[f"over {_LONGEST} words"] += 1
        elif s.text in kept:
            why["repeated"] += 1
        else:
            kept[s.text] = s
    return list(kept.values()), dict(why)
