"""The shipped sentences are what they claim: tagged, complete, different, and in many orders."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest

from patchboard.tasks.sentences import OTHER, TAGS, Corpus, Sentence, Word, shipped, shipped_lines, tag_of

LINES = list(shipped_lines())
KNOWN = {"NOUN", "ADJ", "VERB", "ADV", "ADP", "PRON", "DET", "AUX", "SCONJ", "CCONJ", "PART", "NUM", "PUNCT"}
CLOSED = {
    **dict.fromkeys("the a an".split(), "DET"),
    **dict.fromkeys("of in at with from under across toward".split(), "ADP"),
    **dict.fromkeys("because although if".split(), "SCONJ"),
    **dict.fromkeys("and but or".split(), "CCONJ"),
    **dict.fromkeys("is are was were can could would will".split(), "AUX"),
    **dict.fromkeys("i you he she it we they me him her us them my your his our their who".split(), "PRON"),
    **dict.fromkeys("nobody everyone everybody someone something nothing everything anyone".split(), "PRON"),
    **dict.fromkeys("very never often always rarely again here there".split(), "ADV"),
}
"""Words of one tag whatever their place."""


def first_tags(line: list[tuple[str, str]]) -> tuple[str, ...]:
    """The six tags in the order in which they first occur."""
    seen = [tag_of(upos) for _, upos in line]
    return tuple(sorted(TAGS, key=seen.index))


def test_every_sentence_is_usable_and_different():
    corpus = Corpus.of(shipped())
    assert len(corpus.sentences) == len(LINES) >= 300
    assert not corpus.excluded
    assert all(7 <= len(sentence.words) <= 16 for sentence in corpus.sentences)


def test_tags_are_known_and_closed_class_words_keep_theirs():
    for line in LINES:
        assert {upos for _, upos in line} <= KNOWN
        for form, upos in line:
            assert CLOSED.get(form.lower(), upos) == upos, f"{form}/{upos} in {line}"


def test_running_text_is_a_written_sentence():
    for sentence in shipped():
        assert sentence.text[0].isupper() and sentence.text[-1] in ".?"
        assert " ." not in sentence.text and " ," not in sentence.text and "  " not in sentence.text
        at = 0
        for word in sentence.words:
            at = sentence.text.index(word.form, at) + len(word.form)


def test_no_tag_is_given_away_by_its_place():
    """Of any two tags either comes first in 20 to 80 % of the sentences; none opens more than a third of them."""
    orders = [first_tags(line) for line in LINES]
    assert len(set(orders)) >= 100
    for a, b in combinations(TAGS, 2):
        share = sum(order.index(a) < order.index(b) for order in orders) / len(orders)
        assert 0.2 < share < 0.8, (a, b, share)
    openers = Counter(tag_of(line[0][1]) for line in LINES)
    assert max(openers.values()) <= len(LINES) / 3
    assert set(openers) == {*TAGS, OTHER}


def words(*tags: str) -> tuple[Word, ...]:
    return tuple(Word(f"w{i}", (tag,)) for i, tag in enumerate(tags))


def test_a_sentence_is_left_out_for_a_reason():
    whole = words(*TAGS)
    inside = (Word("I'm", ("pronoun", "other")), *whole)
    after = (*whole, Word("I'm", ("pronoun", "other")))
    assert Sentence("", whole).fault() == ""
    assert Sentence("", after).fault() == "", "a contraction behind the first pronoun does no harm"
    assert "contraction" in Sentence("", inside).fault()
    assert "lacks" in Sentence("", whole[1:]).fault()
    assert Sentence("", whole + words(*["other"] * 34)).fault() == ""
    assert "40" in Sentence("", whole + words(*["other"] * 35)).fault()


def test_a_corpus_counts_what_it_leaves_out():
    whole = words(*TAGS, "noun")
    corpus = Corpus.of([Sentence("a", whole), Sentence("b", whole[:3]), Sentence("a", whole), Sentence("c", whole)])
    facts = corpus.describe()
    assert [s.text for s in corpus.sentences] == ["a", "c"]
    assert facts["sentences_read"] == 4 and facts["sentences_kept"] == 2
    assert sorted(facts["excluded"].values()) == [1, 1]
    assert facts["words"]["noun"] == 4 and facts["words"]["verb"] == 2 and facts["words"][OTHER] == 0


@pytest.mark.parametrize(
    ("name", "task"),
    [("NOUN", "noun"), ("NNS", "noun"), ("PROPN", OTHER), ("NNP", OTHER), ("AUX", OTHER), ("MD", OTHER),
     ("VBZ", "verb"), ("PRP$", "pronoun"), ("IN", "preposition"), ("TO", OTHER), ("jjr", "adjective"),
     (None, OTHER), ("_", OTHER)],
)  # fmt: skip
def test_universal_and_penn_tags(name, task):
    assert tag_of(name) == task
