"""What a tokenizer adds is no part of the answer, and stands in front once; what is unknown to it is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import polars as pl
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from patchboard.commands.main import main
from patchboard.embedded.tokenizer import build
from patchboard.errors import ModelError, SpecError
from patchboard.plan.build import build_plans
from patchboard.plan.facts import ModelFacts
from patchboard.spec import study_of
from patchboard.spec.prompts import TemplateSection
from patchboard.tasks.base import Item
from patchboard.tasks.encode import SPEC, TEXT, TOKENIZER, Encoder, Frame
from patchboard.tasks.frames import described, in_words, remarks
from patchboard.tasks.prompts import Prompter
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree, write

ROWS = [
    [Item("0000 0001", {"A": "0001 0011", "B": "0111"}), Item("0001 0010", {"A": "0011", "B": "0000 1111"})],
    [Item("0001 0010", {"A": "0011", "B": "0000"}), Item("0000 0001", {"A": "0001 0011", "B": "0111"})],
]
PLAIN = {"bos_token": "<bos>", "unk_token": "<unk>", "pad_token": "<pad>"}


def adding(single: str | None, **declared: str | None) -> PreTrainedTokenizerFast:
    """The embedded vocabulary with another post-processor; <pad> plays EOS, CLS and SEP."""
    core = build().backend_tokenizer
    special = [(token, core.token_to_id(token)) for token in ("<bos>", "<pad>", "<unk>")]
    core.post_processor = processors.TemplateProcessing(single=single or "$A", special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=core, **{**PLAIN, **declared})


def made(tokenizer, bos="auto", rows=ROWS, **template):
    template = TemplateSection(separator="\n", **template)
    return Prompter(tokenizer, template, bos).prompts("A", rows, others=("A", "B"))


def bare(prompts):
    """The prompts without what is told of their first tokens."""
    return [replace(prompt, frame=Frame(), text="") for prompt in prompts]


@pytest.mark.parametrize(
    ("single", "bos", "prefix", "who", "spare", "behind"),
    [
        ("<bos> $A <pad>", "auto", "", TOKENIZER, 0, 1),
        ("<bos> $A <pad> <pad>", "auto", "", TOKENIZER, 0, 2),
        ("<bos> <bos> $A", "auto", "", TOKENIZER, 1, 0),
        ("<bos> $A", "auto", "<bos>", TEXT, 1, 0),
        ("<bos> $A", "auto", "<bos> ", TEXT, 1, 0),
        ("<bos> <bos> $A <pad>", "auto", "<bos>", TEXT, 2, 1),
        (None, "auto", "<bos>", TEXT, 0, 0),
        (None, True, "", SPEC, 0, 0),
        ("<pad> $A <pad>", True, "", SPEC, 1, 1),
        ("<bos> $A <pad>", True, "", TOKENIZER, 0, 1),
        ("<bos> $A", True, "<bos>", TEXT, 1, 0),
    ],
)
def test_prompts_are_those_of_a_tokenizer_that_adds_one_token_in_front(single, bos, prefix, who, spare, behind):
    """Ids, answers, alternatives and positions alike, whatever is added where and by whom."""
    tokenizer = adding(single)
    prompts = made(tokenizer, bos, prefix=prefix)
    plain = made(build())
    assert [len(p.answer_ids) for p in plain] == [1, 2] and len(plain[0].alternatives["B"]) == 2
    assert bare(prompts) == bare(plain)
    (entry,) = described(prompts, tokenizer)
    assert entry["in_front"] == [{"token": "<bos>", "id": 1, "from": who}] and entry["prompts"] == 2
    assert [len(entry["left_out"][where]) for where in ("in_front", "behind")] == [spare, behind]
    assert bool(remarks(entry)) == bool(behind or (spare and single != "<pad> $A <pad>")), "what is odd is told"
    assert in_words(entry).startswith(f"in front: '<bos>' (from {who})")


def test_nothing_in_front_where_the_spec_says_so():
    prompts = made(adding("<bos> $A <pad>"), False)
    for prompt, plain in zip(prompts, made(build()), strict=True):
        assert prompt.token_ids == plain.token_ids[1:] and prompt.answer_ids == plain.answer_ids
        assert prompt.alternatives == plain.alternatives
        assert prompt.positions["query"] == tuple(i - 1 for i in plain.positions["query"])
    (entry,) = described(prompts, build())
    assert in_words(entry).startswith("in front: nothing; left out of what the tokenizer adds in front: '<bos>'")


def test_tokens_in_front_that_are_no_beginning_stay_under_auto():
    """CLS, or a first token that is not declared as bos_token and typed as an ordinary word."""
    tokenizer = adding("<pad> <bos> $A <unk>")
    assert all(p.token_ids[:2] == (0, 1) and p.token_ids[2] > 2 for p in made(tokenizer))
    assert bare(made(tokenizer, prefix="<pad><bos>")) == bare(made(tokenizer))
    undeclared = adding("<bos> $A", bos_token=None, pad_token=None)
    assert bare(made(undeclared, prefix="<bos> ")) == bare(made(build()))


def test_a_beginning_typed_inside_is_kept_and_told():
    """In each row's input, say: what is first counts as the one in front, the others are the user's."""
    rows = [[Item(f"<bos> {item.input}", item.answers) for item in drawn] for drawn in ROWS]
    prompts = made(build(), rows=rows)
    assert [prompt.token_ids.count(1) for prompt in prompts] == [2, 2] and prompts[0].token_ids[1] != 1
    (entry,) = described(prompts, build())
    assert entry["again_inside"] and "stands again inside 2 prompts" in remarks(entry)[-1]


@pytest.mark.parametrize(
    ("tokenizer", "bos", "prefix", "message"),
    [
        (adding("$A", bos_token=None), True, "", "prompts.bos: is true, but the model's tokenizer has no token"),
        (adding("<bos> $A"), False, "<bos>", "is false, but a prompt's text begins with '<bos>'; take '<bos>' out"),
        (adding("<bos> $A"), "auto", "<bos><bos>", "a prompt's text begins with it 2 times"),
        (adding(None), True, "<bos> <bos>", "a prompt's text begins with it 2 times"),
        (adding("<bos> $A <pad> $A"), "auto", "", "model.name: its tokenizer gives every text more than once"),
    ],
)
def test_what_cannot_be_meant_is_refused(tokenizer, bos, prefix, message):
    with pytest.raises((SpecError, ModelError), match=message.replace("(", r"\(")):
        made(tokenizer, bos, prefix=prefix)


def test_fits_and_decoded_prompts_follow_a_swept_beginning():
    facts = ModelFacts("llama", 4, 8, 1000, 8, 1, 8, ("resid_post",), True, 0)
    tree = tiny_tree("model", prompts={"shots": 1, "queries": 2, "bos": {"sweep": ["auto", False, True]}})
    (plan,) = build_plans(study_of(tree), lambda section: (build(), facts))
    for sets in (plan.fits, plan.decodings):
        first = [{p.token_ids[0] for rows in each.prompts.values() for p in rows} for each in sets]
        assert [ids == {1} for ids in first] == [True, False, True]
    assert [group.prompts[0].token_ids[0] == 1 for group in plan.groups] == [True] * 3 + [False] * 3 + [True] * 3
    by_fit = [{key for key, recipe in plan.recipes.items() if recipe.fit == fit.id} for fit in plan.fits]
    assert len(by_fit[0]) == len(by_fit[1]) == len(by_fit[2]) == len(plan.recipes) / 3 > 0


@pytest.mark.slow
def test_a_run_is_that_of_the_tokenizer_without_its_additions(llama_folder, tmp_path, capsys):
    """To the bit, clean and patched; the manifest and --show-tokens say what was left out."""
    folder = tmp_path / "appends"
    shutil.copytree(llama_folder, folder)
    adding("<bos> <bos> $A <pad>").save_pretrained(folder)
    found = []
    for model in (llama_folder, folder):
        tree = tiny_tree(model, controls=[], decodability=None)
        assert run(tree, out := tmp_path / f"run-{model.name}", "--wandb", "off") == 0
        found.append(pl.read_parquet(out / "outcomes.parquet"))
    assert found[0].equals(found[1]) and found[0]["clean"].std() > 0
    (entry,) = manifest_of(out)["special_tokens"]
    assert [t["token"] for t in entry["left_out"]["behind"]] == ["<pad>"] and entry["in_front"][0]["from"] == TOKENIZER
    assert any("behind a text: left out" in line for line in manifest_of(out)["fallbacks"])
    capsys.readouterr()
    assert run(tree, tmp_path / "no", "--show-tokens") == 0
    assert "in front: '<bos>' (from the tokenizer); left out of what the tokenizer adds" in capsys.readouterr().out
    assert run(tree, tmp_path / "no", "--prompts.bos=1") == 2
    assert "prompts.bos: found the whole number 1, expected auto, true or false" in one_error(capsys)


@pytest.mark.slow
def test_a_swept_beginning_is_one_column_of_all_tables(llama_folder, tmp_path):
    """Its values are text and truth values, which one column cannot hold as they are."""
    tree = tiny_tree(llama_folder, prompts={"shots": 1, "queries": 3, "bos": {"sweep": ["auto", False]}})
    assert run(tree, out := tmp_path / "run", "--wandb", "off") == 0
    tables = [pl.read_parquet(out / f"{name}.parquet") for name in ("outcomes", "effects", "decodability")]
    assert [table["prompts.bos"].unique(maintain_order=True).to_list() for table in tables] == [["auto", "false"]] * 3
    points = json.loads((out / "summary.json").read_text())["interventions"]["p"]["points"]
    assert all(point["cd_at_best_layer"] is not None for point in points) and len(points) == 2
    assert [len(entry["in_front"]) for entry in manifest_of(out)["special_tokens"]] == [1, 0]


SPLIT = pre_tokenizers.WhitespaceSplit()
WORDS = {"<|end|>": 0, "a": 1, "b": 2, "é": 3}
END = {"unk_token": "<|end|>", "bos_token": "<|end|>", "eos_token": "<|end|>"}


def vocabulary(model, declared=END, **parts) -> PreTrainedTokenizerFast:
    core = Tokenizer(model)
    for name, part in parts.items():
        setattr(core, name, part)
    return PreTrainedTokenizerFast(tokenizer_object=core, **declared)


BYTES = {**{c: i for i, c in enumerate("abĠÃz")}, "<|end|>": 9}
FALLBACK = {**WORDS, **{f"<0x{i:02X}>": 10 + i for i in range(256)}}
UNIGRAM = [("a", -1.0), ("b", -1.0), ("<unk>", -9.0)]


@pytest.mark.parametrize(
    ("tokenizer", "known", "unknown"),
    [
        # unk = bos = eos, as GPT-2's and GPT-NeoX's: its own text is no unknown piece
        (vocabulary(models.WordLevel(WORDS, unk_token="<|end|>"), pre_tokenizer=SPLIT), ["<|end|>a b", "a <|end|> b"],
         {"a z b": "z", "<|end|>z": "z", "A": "A"}),
        # a token for unknown pieces that the tokenizer does not declare
        (vocabulary(models.WordLevel(WORDS, unk_token="<|end|>"), {}, pre_tokenizer=SPLIT), ["a b"], {"a z": "z"}),
        (vocabulary(models.Unigram(UNIGRAM, unk_id=2), {}, pre_tokenizer=SPLIT), ["a b"], {"a z b": "z"}),
        # none at all: the library raises, or leaves characters out
        (vocabulary(models.WordLevel(WORDS), {}, pre_tokenizer=SPLIT), ["a b"], {"a z": "z"}),
        (vocabulary(models.WordPiece(WORDS), {}, pre_tokenizer=SPLIT), ["a b"], {"a z": "z"}),
        (vocabulary(models.Unigram(UNIGRAM[:2]), {}, pre_tokenizer=SPLIT), ["a b"], {"a z": "z"}),
        (vocabulary(models.BPE(WORDS, []), pre_tokenizer=SPLIT), ["a b", "<|end|>a"], {"a z b": "z", "zab": "z"}),
        (vocabulary(models.BPE(WORDS, [])), ["ab"], {"azb": "z", "a b": " "}),
        # what a normaliser rewrites or removes is known
        (vocabulary(models.BPE(WORDS, []), pre_tokenizer=SPLIT, normalizer=normalizers.NFC()),
         ["a e\u0301 b"], {"a\u0301": "\u0301"}),
        (vocabulary(models.BPE(WORDS, []), pre_tokenizer=SPLIT, normalizer=normalizers.BertNormalizer()),
         ["A\u200b\u0301 b"], {"A Z": "Z"}),
        # bytes: all of them known, or only the first of two
        (vocabulary(models.BPE(FALLBACK, [], byte_fallback=True, unk_token="<|end|>"),
                    decoder=decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])), ["a z ﬁ\n"], {}),
        (vocabulary(models.BPE(BYTES, []), {"bos_token": "<|end|>"}, pre_tokenizer=pre_tokenizers.ByteLevel(False),
                    decoder=decoders.ByteLevel(), post_processor=processors.ByteLevel(trim_offsets=True)),
         ["a z  b", "<|end|>a"], {"a é": "é", "ac": "c"}),
    ],
)  # fmt: skip
def test_unknown_is_what_cannot_be_given_back(tokenizer, known, unknown):
    encoder = Encoder(tokenizer)
    assert [one.fault for one in encoder.encode(known)] == [""] * len(known)
    faults = {text: one.fault for text, one in zip(unknown, encoder.encode([*unknown]), strict=True)}
    assert faults == {text: f"{piece!r} is not in the tokenizer's vocabulary" for text, piece in unknown.items()}


def test_an_end_of_text_in_the_prefix_passes_and_an_unknown_alternative_does_not(llama_folder, tmp_path, capsys):
    """On the embedded vocabulary with unk = bos = eos, from the command line."""
    core = build().backend_tokenizer
    core.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    core.model.unk_token = "<bos>"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<bos>", bos_token="<bos>", eos_token="<bos>")
    prompts = made(tokenizer, prefix="<bos>", rows=[[ROWS[0][0], Item("0001", {"A": "0000", "B": "zebra"})]])
    assert not prompts[0].excluded and prompts[0].alternatives == {}
    assert made(tokenizer, prefix="<bos>zebra ")[0].excluded == "'zebra' is not in the tokenizer's vocabulary"
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(llama_folder / "config.json", folder)
    tokenizer.save_pretrained(folder)
    spec = write(tiny_tree(folder), tmp_path / "spec.yaml")
    assert main(["run", spec, "--show-tokens", "--prompts.template.prefix=<bos>"]) == 0
    assert f"in front: '<bos>' (from {TEXT})" in capsys.readouterr().out


def test_a_token_that_takes_the_spaces_beside_it_is_still_its_own_text():
    tokenizer = vocabulary(models.WordLevel(WORDS, unk_token="<|end|>"), pre_tokenizer=SPLIT)
    tokenizer.add_special_tokens({"unk_token": AddedToken("<|end|>", lstrip=True, rstrip=True)})
    spelled, unknown = Encoder(tokenizer).encode(["a <|end|> b", "a z"])
    assert spelled.fault == "" and unknown.fault == "'z' is not in the tokenizer's vocabulary"


def test_padding_and_truncation_of_a_tokenizer_file_do_not_count(tmp_path):
    tokenizer = adding("<bos> $A")
    tokenizer.backend_tokenizer.enable_padding(length=64)
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "tokenizer.json").read_text())
    assert stored["padding"] and stored["truncation"]
    assert bare(made(PreTrainedTokenizerFast.from_pretrained(tmp_path))) == bare(made(build()))
