"""`pos` on real text: the default data set read from a local snapshot of it, and the counts that are shown."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import datasets
import polars as pl
import pytest
from conllu import parse
from ruamel.yaml import YAML

from patchboard.errors import TaskError
from patchboard.report.task_counts import task_counts
from patchboard.spec.sections import TasksSection
from patchboard.tasks.families.pos import GENERATED, REAL_TEXT
from patchboard.tasks.resolve import build_family
from patchboard.tasks.sentences import CONTRACTED, LACKING, REPEATED, TAGS, TOO_LONG, shipped, shipped_lines
from patchboard.tasks.treebank import read_conllu, read_dataset
from tests.contract import tiny

EWT = Path(__file__).parents[3] / "shared" / "data" / "ud_english_ewt" / "en_ewt-ud-dev.conllu"
WRITTEN = [
    "They/PRON often/ADV see/VERB old/ADJ dogs/NOUN in/ADP parks/NOUN ./PUNCT",
    "She/PRON +'s/AUX quickly/ADV past/ADP the/DET old/ADJ mill/NOUN ,/PUNCT run/VERB ./PUNCT",
    "Gon/VERB +na/PART rain/VERB ,/PUNCT he/PRON said/VERB ,/PUNCT very/ADV hard/ADJ on/ADP roofs/NOUN ./PUNCT",
    "Rain/NOUN falls/VERB ./PUNCT",
    "They/PRON often/ADV see/VERB old/ADJ dogs/NOUN in/ADP parks/NOUN ./PUNCT",
    "We/PRON never/ADV ate/VERB at/ADP home/NOUN cold/ADJ" + " well/ADV" * 35 + " ./PUNCT",
    "We/PRON never/ADV ate/VERB cold/ADJ dogs/NOUN at/ADP home/NOUN",
]
"""word/tag, with "+" where it stands to the word before as one."""


def conllu(line: str) -> str:
    """The line as CoNLL-U: two words in one as a range."""
    text, rows, number = "", [], 0
    tokens = [token.rpartition("/") for token in line.split()]
    for i, (form, _, upos) in enumerate(tokens):
        number += 1
        if form.startswith("+"):
            form = form[1:]
        elif upos != "PUNCT":
            text += " "
        if i + 1 < len(tokens) and tokens[i + 1][0].startswith("+"):
            rows.append(f"{number}-{number + 1}\t{form}{tokens[i + 1][0][1:]}" + "\t_" * 8)
        rows.append(f"{number}\t{form}\t_\t{upos}" + "\t_" * 6)
        text += form
    return f"# text = {text.strip()}\n" + "\n".join(rows) + "\n\n"


@pytest.fixture
def treebank(tmp_path) -> Path:
    file = tmp_path / "made.conllu"
    file.write_text("".join(map(conllu, WRITTEN)))
    return file


def snapshot(place: Path, treebank: str) -> None:
    """The default data set's folder as it lies on the Hub: parquet of syntactic words, configurations in its card."""
    sentences = [
        {
            "text": tokens.metadata["text"],
            "tokens": [token["form"] for token in tokens if isinstance(token["id"], int)],
            "upos": [token["upos"] for token in tokens if isinstance(token["id"], int)],
        }
        for tokens in parse(treebank)
    ]
    folder = place / REAL_TEXT.name
    (folder / "parquet").mkdir(parents=True)
    datasets.Dataset.from_list(sentences).to_parquet(str(folder / "parquet" / "train.parquet"))
    card = (
        f"configs:\n- config_name: {REAL_TEXT.config}\n  data_files:\n  - {{split: train, path: parquet/train.parquet}}"
    )
    (folder / "README.md").write_text(f"---\n{card}\n- config_name: fr_gsd\n  data_files: none.parquet\n---\n")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """An empty working folder and cache."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "work"


def family_of(**fields):
    return build_family(TasksSection(family="pos", include_null=False, **fields), embedded=False)


def test_source_hub_alone_reads_the_english_web_treebank_as_it_is_written(treebank, elsewhere):
    snapshot(elsewhere, treebank.read_text())
    family = family_of(source="hub")
    assert family.pool(0) == family_of(treebank=str(treebank)).pool(0)
    assert [item.input for item in family.pool(0)] == [
        "They often see old dogs in parks.", "We never ate cold dogs at home",
    ]  # fmt: skip
    facts, other = family.describe(), family_of(treebank=str(treebank)).describe()
    assert facts["by_tag"] == other["by_tag"] and facts["excluded"] == other["excluded"]
    assert facts["dataset"]["name"] == "commul/universal_dependencies" and facts["dataset"]["revision"] == "2.17"


def test_without_running_text_a_contraction_falls_apart(treebank, elsewhere):
    snapshot(elsewhere, treebank.read_text())
    without = list(read_dataset(REAL_TEXT.name, REAL_TEXT.config, "train", "tokens", "upos"))
    assert without[1].text == "She 's quickly past the old mill , run ." and without[1].fault() == ""
    (there, *_) = [s for s in read_conllu(str(treebank)) if s.text.startswith("She")]
    assert there.text == "She's quickly past the old mill, run." and there.fault() == CONTRACTED


def test_the_default_data_set_equals_the_treebank_on_real_sentences(elsewhere):
    if not EWT.exists():
        pytest.skip("no ../shared/data/ud_english_ewt beside the project")
    snapshot(elsewhere, EWT.read_text(encoding="utf-8"))
    facts, other = family_of(source="hub").describe(), family_of(treebank=str(EWT)).describe()
    assert facts["sentences_read"] == 2001 and facts["sentences_kept"] > 200
    for entry in ("sentences_kept", "excluded", "by_tag"):
        assert facts[entry] == other[entry]


def test_a_data_set_that_cannot_be_reached_is_one_line(elsewhere, monkeypatch, capfd):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TaskError) as caught:
        family_of(source="hub").pool(0)
    line = caught.value.one_line()
    assert "\n" not in line and line.startswith("tasks.dataset: split 'train' of 'commul/universal_dependencies'")
    assert "the network" in line and capfd.readouterr().err == ""


def test_a_column_that_is_no_text_is_refused(treebank, elsewhere):
    snapshot(elsewhere, treebank.read_text())
    for column, says in (("txt", "did you mean 'text'?"), ("tokens", "row 0")):
        with pytest.raises(TaskError) as caught:
            list(read_dataset(REAL_TEXT.name, REAL_TEXT.config, "train", "tokens", "upos", text=column))
        assert caught.value.where == "tasks.dataset.text" and says in caught.value.one_line()


def literal_counts(file: Path) -> tuple[Counter[str], dict[str, dict[str, int]]]:
    """(sentences by reason, tag -> counts), each sentence looked at once for each tag, word by word."""
    reasons: Counter[str] = Counter()
    counts = {tag: {"sentences": 0, "first_words": 0, "contracted": 0} for tag in TAGS}
    answers: dict[str, set[str]] = {tag: set() for tag in TAGS}
    seen: set[str] = set()
    for sentence in read_conllu(str(file)):
        firsts = {}
        for word in sentence.words:
            for tag in word.tags:
                firsts.setdefault(tag, word)
        missing = [tag for tag in TAGS if tag not in firsts]
        inside = [tag for tag in TAGS if tag in firsts and len(firsts[tag].tags) > 1]
        for tag in TAGS:
            counts[tag]["sentences"] += tag in firsts
        if len(sentence.words) > 40:
            reasons[TOO_LONG] += 1
        elif missing:
            reasons[LACKING] += 1
        elif inside:
            reasons[CONTRACTED] += 1
            for tag in inside:
                counts[tag]["contracted"] += 1
        elif sentence.text in seen:
            reasons[REPEATED] += 1
        else:
            seen.add(sentence.text)
            for tag in TAGS:
                answers[tag].add(firsts[tag].form)
    for tag in TAGS:
        counts[tag]["first_words"] = len(answers[tag])
    return reasons, counts


def test_counts_by_tag_are_those_of_a_literal_count(treebank):
    for file in (treebank, *([EWT] if EWT.exists() else [])):
        facts = family_of(treebank=str(file)).describe()
        reasons, counts = literal_counts(file)
        assert facts["excluded"] == reasons and facts["by_tag"] == counts
    made = family_of(treebank=str(treebank)).describe()
    assert made["excluded"] == {TOO_LONG: 1, LACKING: 1, CONTRACTED: 2, REPEATED: 1}
    assert made["by_tag"]["pronoun"] == {"sentences": 6, "first_words": 2, "contracted": 1}
    assert made["by_tag"]["verb"] == {"sentences": 7, "first_words": 2, "contracted": 1}
    assert made["by_tag"]["noun"]["contracted"] == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_counts_of_the_grammar_hold_for_the_pool_of_every_seed(seed):
    family = family_of(source="grammar")
    pool, facts = family.pool(seed), family.describe()
    assert len(pool) == len({item.input for item in pool}) == GENERATED == facts["sentences_kept"]
    assert {tag: len({item.answers[tag] for item in pool}) for tag in TAGS} == {
        tag: counts["first_words"] for tag, counts in facts["by_tag"].items()
    }


def test_the_default_data_set_stands_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    (written,) = [line for line in text.splitlines() if line.startswith("  dataset: {name: commul/")]
    assert YAML(typ="safe").load(written)["dataset"] == REAL_TEXT.model_dump()


def test_a_source_is_told_once_however_many_seeds_read_it(treebank):
    facts, shown = family_of(treebank=str(treebank)).describe(), family_of(source="sentences").describe()
    first, second = task_counts([facts, facts, shown, {"family": "bitwise", "bits": 5}])
    assert first.sentence == (
        f"Source treebank ({treebank}): 7 sentences read, 2 kept. Left out: 1 {LACKING}; 1 {TOO_LONG}; 1 {REPEATED};"
        f" 2 {CONTRACTED}."
    )
    assert first.rows[TAGS.index("verb")] == ("verb", "7", "2", "1")
    assert second.sentence == f"Source sentences: {len(list(shipped()))} sentences read, 356 kept. Left out: none."


def test_plan_manifest_and_page_show_the_counts(llama_text_folder, treebank, tmp_path, capsys):
    tree = tiny.tiny_tree(
        llama_text_folder, tasks={"family": "pos", "treebank": str(treebank), "only": ["noun", "verb"]},
        prompts={"shots": 0, "queries": 1},
        interventions={"p": {"op": "patch", "vector": {"mean": "same_task", "shots": 0, "prompts": 1}, "layers": 1}},
        controls=[], decodability=None,
    )  # fmt: skip
    spec = tiny.write(tree, tmp_path / "spec.yaml")
    assert tiny.main(["plan", spec]) == 0
    told = capsys.readouterr().out
    assert "7 sentences read, 2 kept." in told
    assert ["verb", "7", "2", "1"] in [line.split() for line in told.splitlines()]
    assert tiny.main(["plan", spec, "--json"]) == 0
    ((planned,),) = [model["tasks"] for model in json.loads(capsys.readouterr().out)["models"]]
    assert tiny.run(tree, tmp_path / "out") == 0
    (noted,) = tiny.manifest_of(tmp_path / "out")["tasks"]
    assert noted == planned and noted["by_tag"]["verb"] == {"sentences": 7, "first_words": 2, "contracted": 1}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "7 sentences read, 2 kept. Left out: 1 lacks" in page
    assert "<tr><td>verb<td>7<td>2<td>1</tr>" in page


@pytest.fixture(scope="module")
def llama_text_folder(tmp_path_factory) -> Path:
    """A random Llama whose tokenizer knows any text."""
    from tests.models import byte_level_tokenizer, random_model

    folder = tmp_path_factory.mktemp("llama")
    tokenizer = byte_level_tokenizer()
    random_model("llama", vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow  # some 10 s: a whole run
def test_the_spec_on_real_text_runs_on_a_model_that_reads_any_text(llama_text_folder, elsewhere):
    """On shipped sentences in the default data set's place: every part of speech has its effects and its CD."""
    snapshot(elsewhere, "".join(conllu(" ".join("/".join(token) for token in line)) for line in shipped_lines()))
    spec = Path(__file__).parents[2] / "experiments" / "specs" / "pos_text.yaml"
    asked = [
        "--model", str(llama_text_folder), "--layers", "1", "--prompts.shots=1", "--prompts.queries=3",
        "--interventions.positive.vector.prompts=3", "--interventions.positive.vector.shots=1",
        "--interventions.added.vector.prompts=3", "--interventions.added.vector.shots=1",
        "--interventions.negative.vector.prompts=3", "--interventions.negative.vector.shots=1",
        "--decodability.prompts=3", "--decodability.k=2", "--decodability.shots=[1]", "--statistics.bootstrap=100",
    ]  # fmt: skip
    assert tiny.main(["run", str(spec), "--out", "out", "--quiet", "--wandb", "off", *asked]) == 0
    effects = pl.read_parquet("out/effects.parquet")
    for name in ("positive", "added", "negative"):
        assert set(effects.filter(intervention=name, control="")["task"]) == set(TAGS)
    assert set(pl.read_parquet("out/decodability.parquet")["task"]) == {*TAGS, "Null", "ALL"}
    (noted,) = tiny.manifest_of(Path("out"))["tasks"]
    assert noted["sentences_kept"] == 356 and noted["dataset"] == REAL_TEXT.model_dump()
