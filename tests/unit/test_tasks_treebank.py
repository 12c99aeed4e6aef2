"""CoNLL-U and data-set readers against a literal reading of the same lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchboard.errors import SpecError, TaskError
from patchboard.spec.sections import TasksSection
from patchboard.tasks.resolve import build_family
from patchboard.tasks.sentences import TAGS, tag_of
from patchboard.tasks.treebank import read_conllu, read_dataset
from patchboard.tasks.written import as_written

EWT = Path(__file__).parents[3] / "shared" / "data" / "ud_english_ewt" / "en_ewt-ud-dev.conllu"

CONTRACTED = """\
# sent_id = one
# text = (Yes) I'm here, but the well-known dogs' owner didn't.
1	(	(	PUNCT	_	_	_	_	_	SpaceAfter=No
2	Yes	yes	INTJ	_	_	_	_	_	SpaceAfter=No
3	)	)	PUNCT	_	_	_	_	_	_
4-5	I'm	_	_	_	_	_	_	_	_
4	I	I	PRON	_	_	_	_	_	_
5	'm	be	AUX	_	_	_	_	_	_
5.1	am	be	VERB	_	_	_	_	_	_
6	here	here	ADV	_	_	_	_	_	SpaceAfter=No
7	,	,	PUNCT	_	_	_	_	_	_
8	but	but	CCONJ	_	_	_	_	_	_
9	the	the	DET	_	_	_	_	_	_
10	well	well	ADV	_	_	_	_	_	SpaceAfter=No
11	-	-	PUNCT	_	_	_	_	_	SpaceAfter=No
12	known	known	ADJ	_	_	_	_	_	_
13	dogs	dog	NOUN	_	_	_	_	_	SpaceAfter=No
14	'	's	PART	_	_	_	_	_	_
15	owner	owner	NOUN	_	_	_	_	_	_
16-17	didn't	_	_	_	_	_	_	_	SpaceAfter=No
16	did	do	AUX	_	_	_	_	_	_
17	n't	not	PART	_	_	_	_	_	_
18	.	.	PUNCT	_	_	_	_	_	_

"""


def test_contractions_empty_nodes_and_compounds(tmp_path):
    file = tmp_path / "a.conllu"
    file.write_text(CONTRACTED)
    (sentence,) = read_conllu(str(file))
    assert sentence.text == "(Yes) I'm here, but the well-known dogs' owner didn't."
    assert [(word.form, word.tags) for word in sentence.words] == [
        ("Yes", ("other",)), ("I'm", ("pronoun", "other")), ("here", ("adverb",)), ("but", ("other",)),
        ("the", ("other",)), ("well-known", ("adverb", "adjective")), ("dogs", ("noun",)), ("owner", ("noun",)),
        ("didn't", ("other", "other")),
    ]  # fmt: skip


@pytest.mark.parametrize(("here", "there"), [("= (Yes)", "= Well (Yes)"), ("didn't.", "didn't. Yet."), ("but", "and")])
def test_another_text_gives_way_to_the_words(tmp_path, here, there):
    file = tmp_path / "a.conllu"
    file.write_text(CONTRACTED.replace(here, there, 1))
    (sentence,) = read_conllu(str(file))
    assert sentence.text == "( Yes ) I'm here , but the well - known dogs ' owner didn't ."
    assert ("well", ("adverb",)) in [(word.form, word.tags) for word in sentence.words]


FORMS = st.text("abcé'-.,", min_size=1, max_size=4)
TAG_LISTS = st.lists(st.sampled_from([*TAGS, "other"]), min_size=1, max_size=3)
TOKENS = st.lists(st.tuples(FORMS, TAG_LISTS, st.booleans()), min_size=1)


@given(TOKENS)
def test_words_are_what_stands_between_spaces(tokens):
    text = "".join(form + " " * space for form, _, space in tokens).strip()
    found = as_written([(form, tags) for form, tags, _ in tokens], text)
    # literally: cut the tokens at spaces, and each piece at its outer tokens without a letter
    pieces: list[list[tuple[str, list[str]]]] = [[]]
    for form, tags, space in tokens:
        pieces[-1].append((form, tags))
        if space:
            pieces.append([])
    expected = []
    for piece in pieces:
        while piece and not any(c.isalnum() for c in piece[0][0]):
            piece.pop(0)
        while piece and not any(c.isalnum() for c in piece[-1][0]):
            piece.pop()
        if piece:
            lettered = [tags for form, tags in piece if any(c.isalnum() for c in form)]
            expected.append(("".join(form for form, _ in piece), tuple(sum(lettered, []))))
    assert found.text == text
    assert [(word.form, word.tags) for word in found.words] == expected


def literal_firsts(lines: list[str]) -> dict[str, str]:
    """Task -> form of the first word line of its tag; ranges and empty nodes are no word lines."""
    firsts: dict[str, str] = {}
    for columns in (line.split("\t") for line in lines if not line.startswith("#")):
        if columns[0].isdigit():
            firsts.setdefault(tag_of(columns[3]), columns[1])
    return firsts


def test_answers_on_a_real_treebank():
    if not EWT.exists():
        pytest.skip("no ../shared/data/ud_english_ewt beside the project")
    family = build_family(TasksSection(family="pos", treebank=str(EWT), include_null=False), embedded=False)
    pool = family.pool(0)
    texts = {}
    for block in EWT.read_text(encoding="utf-8").strip().split("\n\n"):
        lines = block.split("\n")
        text = next(line.partition("= ")[2] for line in lines if line.startswith("# text ="))
        texts.setdefault(text, literal_firsts(lines))
    assert len(pool) > 150
    for item in pool:
        assert {task: texts[item.input][task] for task in TAGS} == dict(item.answers)
        for answer in item.answers.values():
            assert answer in item.input
    facts = family.describe()
    assert facts["sentences_read"] == 2001 == facts["sentences_kept"] + sum(facts["excluded"].values())
    holding = [firsts for firsts in texts.values() if set(firsts) >= set(TAGS)]
    assert len(pool) < len(holding), "sentences whose first word of a tag is in a contraction are left out"


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"plain text\n", "not CoNLL-U at sentence 1"), (b"\xff\xfe\x00", "not UTF-8"), (b"", "it is empty"),
     (CONTRACTED.encode(), "1 lacks one of the six"), (CONTRACTED.encode() + b"x\ty\n\n", "at sentence 2")],
)  # fmt: skip
def test_unusable_files_are_named(tmp_path, content, says):
    file = tmp_path / "bad.conllu"
    file.write_bytes(content)
    family = build_family(TasksSection(family="pos", treebank=str(file)), embedded=False)
    with pytest.raises(TaskError, match="tasks.treebank") as caught:
        family.pool(0)
    assert says in caught.value.what and "bad.conllu" in caught.value.what


def conllu(*words: str, spaces: bool = False, text: bool = True) -> str:
    """A sentence of FORM/UPOS/XPOS words."""
    parts = [word.split("/") for word in words]
    misc = "_" if spaces else "SpaceAfter=No"
    lines = [f"{i}\t{form}\t_\t{upos}\t{xpos}\t_\t_\t_\t_\t{misc}" for i, (form, upos, xpos) in enumerate(parts, 1)]
    named = ["# text = " + " ".join(f for f, *_ in parts) if spaces else "# text = " + "".join(f for f, *_ in parts)]
    return "\n".join([*(named if text else []), *lines]) + "\n\n"


CHINESE = "我/PRON/PN 很/ADV/AD 快/ADJ/VA 在/ADP/P 书店/NOUN/NN 买/VERB/VV 书/NOUN/NN 。/PUNCT/PU".split()
PENN = "She/_/PRP sold/_/VBD old/_/JJ maps/_/NNS slowly/_/RB in/_/IN Rome/_/NNP".split()


def pos(file, content: str, **options):
    file.write_text(content, encoding=options.pop("encoding", "utf-8"))
    return build_family(TasksSection(family="pos", treebank=str(file), include_null=False, **options), embedded=False)


@pytest.mark.parametrize("text", [True, False])
def test_without_word_spaces_the_tokens_are_the_words(tmp_path, text):
    """With the running text, and from SpaceAfter=No where the file has none."""
    family = pos(tmp_path / "zh.conllu", conllu(*CHINESE, text=text))
    (item,) = family.pool(0)
    assert item.input == "我很快在书店买书。"
    assert item.answers == dict(zip(TAGS, "书店 快 买 很 在 我".split(), strict=True))
    facts = family.describe()
    assert (facts["word"], facts["tokens_apart"]) == ("tokens", 0.0)


def test_what_a_word_is_can_be_said(tmp_path):
    content = conllu(*CHINESE)
    with pytest.raises(TaskError) as caught:
        pos(tmp_path / "zh.conllu", content, words="written").pool(0)
    assert "1 the first word of a tag is part of a contraction or compound" in caught.value.what
    (sentence,) = read_conllu(str(tmp_path / "zh.conllu"), "written")
    assert [word.form for word in sentence.words] == ["我很快在书店买书"]
    english = CONTRACTED
    (tmp_path / "en.conllu").write_text(english)
    found = read_conllu(str(tmp_path / "en.conllu"))
    assert (found.words, found.apart) == ("written", 1.0), "a few contractions make no language without spaces"
    (sentence,) = read_conllu(str(tmp_path / "en.conllu"), "tokens")
    assert "well" in [word.form for word in sentence.words]
    with pytest.raises(SpecError, match="tasks.words: found tokens, but only a treebank or a dataset"):
        build_family(TasksSection(family="pos", words="tokens"), embedded=True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_penn_tags_where_universal_ones_are_empty_and_a_byte_order_mark(tmp_path, encoding):
    family = pos(tmp_path / "penn.conllu", conllu(*PENN, spaces=True), encoding=encoding)
    (item,) = family.pool(0)
    assert item.answers == dict(zip(TAGS, "maps old sold slowly in She".split(), strict=True))


def test_the_cause_is_told_with_counts(tmp_path):
    def what(*sentences: str) -> str:
        with pytest.raises(TaskError) as caught:
            pos(tmp_path / "a.conllu", "".join(sentences)).pool(0)
        assert caught.value.remedy == "give a larger one, with universal (UPOS) or Penn (XPOS) tags"
        return caught.value.what

    bare = conllu("a/_/_", "b/_/_", spaces=True)
    assert what(bare, bare).endswith("(2 lacks one of the six parts of speech; 4 of 4 words have no tag)")
    known = conllu("a/NOUN/_", "b/VERB/_", spaces=True)
    assert what(bare, known).endswith(
        "(2 lacks one of the six parts of speech; 2 of 4 words have no tag;"
        " none has a word tagged adjective, adverb, preposition, pronoun)"
    )


ROWS = [
    (
        ["She", "ran", "quickly", "past", "the", "old", "mill"],
        "PRP VBD RB IN DT JJ NN",
        "PRON VERB ADV ADP DET ADJ NOUN",
    ),
    (["Paris", "may", "fall"], "NNP MD VB", "PROPN AUX VERB"),
    (["In", "Rome", "old men", "often", "see", "them"], "IN NNP JJ RB VBP PRP", "ADP PROPN ADJ ADV VERB PRON"),
    (["Big", "dogs", "never", "bark", "at", "me"], "JJ NNS RB VBP IN PRP", "ADJ NOUN ADV VERB ADP PRON"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    names = sorted({tag for _, penn, _ in ROWS for tag in penn.split()})
    folder = tmp_path / "made"
    folder.mkdir()
    features = datasets.Features(
        tokens=datasets.Sequence(datasets.Value("string")),
        penn=datasets.Sequence(datasets.ClassLabel(names=names)),
        universal=datasets.Sequence(datasets.Value("string")),
        number=datasets.Value("int64"),
    )
    columns = {
        "tokens": [words for words, _, _ in ROWS],
        "penn": [[names.index(tag) for tag in penn.split()] for _, penn, _ in ROWS],
        "universal": [universal.split() for _, _, universal in ROWS],
        "number": list(range(len(ROWS))),
    }
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(folder / "train.parquet"))
    return str(folder)


@pytest.mark.parametrize("tags", ["penn", "universal"])
def test_a_local_data_set_by_class_labels_and_by_names(folder, tags):
    section = TasksSection(family="pos", dataset={"name": folder, "words": "tokens", "tags": tags}, include_null=False)
    family = build_family(section, embedded=True)
    first, last = family.pool(0)
    assert first.input == "She ran quickly past the old mill"
    assert dict(zip(TAGS, "mill old ran quickly past She".split(), strict=True)) == first.answers
    assert dict(zip(TAGS, "dogs Big bark never at me".split(), strict=True)) == last.answers
    assert family.describe()["sentences_read"] == 4 and family.describe()["sentences_kept"] == 2


def test_white_space_inside_a_word_does_not_split_it(folder):
    third = list(read_dataset(folder, None, "train", "tokens", "penn"))[2]
    assert [word.form for word in third.words] == ["In", "Rome", "old_men", "often", "see", "them"]
    assert third.text == "In Rome old_men often see them"


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [({"words": "token"}, "tasks.dataset.words", "did you mean 'tokens'?"),
     ({"tags": "number"}, "tasks.dataset", "row 0"),
     ({"words": "penn"}, "tasks.dataset", "row 0"), ({"split": "dev"}, "tasks.dataset", "split 'dev'"),
     ({"name": "no/such/folder"}, "tasks.dataset", "cannot be loaded")],
)  # fmt: skip
def test_data_sets_that_cannot_be_used(folder, change, where, says):
    with pytest.raises(TaskError) as caught:
        list(
            read_dataset(
                **{"name": folder, "config": None, "split": "train", "words": "tokens", "tags": "penn"} | change
            )
        )
    assert caught.value.where == where and says in caught.value.one_line()


def test_rows_of_unequal_length_are_refused(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "made").mkdir()
    rows = [{"w": ["a", "b"], "t": ["NOUN", "VERB"]}, {"w": ["a", "b"], "t": ["NOUN"]}]
    (tmp_path / "made" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(TaskError, match="row 1 .* has 2 words and 1 tags"):
        list(read_dataset(str(tmp_path / "made"), None, "train", "w", "t"))
