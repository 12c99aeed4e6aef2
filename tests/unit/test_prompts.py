"""Named positions, found through offsets, on a word-level and on a byte-level tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from patchboard.embedded.tokenizer import build
from patchboard.spec.prompts import TemplateSection
from patchboard.tasks.base import Item
from patchboard.tasks.families.bitwise import Bitwise
from patchboard.tasks.prompts import Prompter, show_tokens
from patchboard.tasks.sets import Halves
from tests.models import byte_level_tokenizer, digit_tokenizer


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    return byte_level_tokenizer()


words = st.text(alphabet="abcdeé01 ", min_size=1, max_size=8).map(str.strip).filter(bool)
items = st.lists(st.builds(lambda i, o: Item(i, {"T": o}), words, words), min_size=1, max_size=5)
TEMPLATES = (
    TemplateSection(),
    TemplateSection(input="Q: {input}\nA:", separator="\n\n"),
    TemplateSection(prefix="Task {task}.\n", input="{input}=", output="{output}", separator="; "),
)


@settings(max_examples=60, deadline=None)
@given(rows=items, template=st.sampled_from(TEMPLATES))
def test_positions_decode_to_the_fields_they_name(byte_level, rows, template):
    """Whatever the text, the tokens of a position together hold its field, and no token of two fields."""
    (prompt,) = Prompter(byte_level, template).prompts("T", [rows])
    if prompt.excluded:
        assert "boundary" in prompt.excluded
        return

    def text(indices) -> str:
        return byte_level.decode([(prompt.token_ids + prompt.answer_ids)[i] for i in indices])

    assert text(range(1, len(prompt.token_ids) + len(prompt.answer_ids))) == prompt.text + template.output.format(
        output=prompt.answer
    )
    assert text(range(len(prompt.token_ids), len(prompt.token_ids) + len(prompt.answer_ids))).strip() == prompt.answer
    assert rows[-1].input in text(prompt.positions["query"])
    for row, where in zip(rows[:-1], prompt.demo_answers, strict=True):
        assert row.answers["T"] in text(where)
    assert prompt.positions["before_answers"] == tuple(where[0] - 1 for where in prompt.demo_answers)
    assert prompt.positions["last"] == (prompt.last,) == (len(prompt.token_ids) - 1,)
    assert prompt.positions["demo_outputs"] == tuple(i for where in prompt.demo_answers for i in where)
    # teacher forcing: every answer token but the last stands behind the prompt and may be edited
    assert len(prompt.positions["answer"]) == len(prompt.answer_ids) - 1


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_numbers_of_a_token_a_digit_are_read_behind_a_space_of_its_own(kind):
    """As pretrained tokenizers spell them: the space before a number is the token at which its first digit is read."""
    tokenizer, family = digit_tokenizer(kind), Bitwise(bits=5)
    tasks = family.tasks[:-1]
    found = Halves(family, 0).prompts(Prompter(tokenizer, TemplateSection()), "evaluate", tasks, 2, 5, others=tasks)
    for prompt in found["NAND"]:
        assert not prompt.excluded
        assert [tokenizer.decode([i]) for i in prompt.answer_ids] == list(prompt.answer)
        assert tokenizer.decode([prompt.token_ids[prompt.last]]) == " " and prompt.text.endswith("->")
        assert prompt.positions["answer"] == tuple(prompt.last + n for n in range(1, 5))
        spaces = prompt.positions["before_answers"]
        assert [tokenizer.decode([prompt.token_ids[i]]) for i in spaces] == [" ", " "]
        assert (
            "".join(tokenizer.decode([prompt.token_ids[i]]) for i in prompt.positions["query"]) == prompt.text[-14:-3]
        )
        assert prompt.alternatives.keys() == set(tasks) - {"NAND"}
        assert all(len(ids) == 5 for ids in prompt.alternatives.values())


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_letters_that_a_vocabulary_lacks_are_bytes_of_one_answer(kind):
    tokenizer = digit_tokenizer(kind)
    rows = [Item("dream", {"fr": "rêver", "es": "soñar"}), Item("write", {"fr": "écrire", "es": "escribir"})]
    (prompt,) = Prompter(tokenizer, TemplateSection()).prompts("fr", [rows], others=("fr", "es"))
    assert not prompt.excluded and tokenizer.decode(prompt.answer_ids).strip() == "écrire"
    assert tokenizer.decode([prompt.token_ids[i] for i in prompt.positions["demo_outputs"]]).strip() == "rêver"
    assert tokenizer.decode(prompt.alternatives["es"]).strip() == "escribir"


def test_an_answer_glued_to_the_prompt_is_excluded_not_guessed(byte_level):
    template = TemplateSection(input="{input}", output="{output}", separator=" ")
    (prompt,) = Prompter(byte_level, template).prompts("T", [[Item("do", {"T": "gs"})]])
    assert len(byte_level("dogs")["input_ids"]) == 2, "the test needs 'dogs' to be one token"
    assert prompt.excluded == "the answer does not begin at a token boundary"


def test_a_word_unknown_to_the_tokenizer_is_named():
    (prompt,) = Prompter(build(), TemplateSection()).prompts("T", [[Item("the zebra", {"T": "zebra"})]])
    assert prompt.excluded == "'zebra' is not in the tokenizer's vocabulary"


def test_alternatives_continue_the_same_prompt():
    family = Bitwise(bits=4)
    tasks = family.tasks[:-1]
    found = Halves(family, 0).prompts(Prompter(build(), TemplateSection()), "evaluate", tasks, 2, 5, others=tasks)
    vocabulary = build().get_vocab()
    for prompt in found["AND"]:
        a, b = (int(x, 2) for x in prompt.text.split("\n")[-1].split()[:2])
        assert prompt.answer_ids == (vocabulary[f"{a & b:04b}"],)
        assert prompt.alternatives["NOR"] == (vocabulary[f"{~(a | b) & 15:04b}"],)
        assert "AND" not in prompt.alternatives


def test_evaluated_prompts_are_matched_and_differ_and_decoded_ones_are_drawn_apart():
    family = Bitwise(bits=4)
    halves, prompter = Halves(family, 0), Prompter(build(), TemplateSection())
    found = halves.prompts(prompter, "evaluate", ["AND", "XOR"], 3, 100)
    strip = lambda p: [line.split(" ->")[0] for line in p.text.split("\n")]  # noqa: E731
    assert [strip(p) for p in found["AND"]] == [strip(p) for p in found["XOR"]]
    assert len({strip(p)[-1] for p in found["AND"]}) == 100
    more = halves.prompts(prompter, "evaluate", ["AND"], 0, 100)["AND"]
    assert [strip(p)[-1] for p in more] == [strip(p)[-1] for p in found["AND"]], "the same queries at every shot count"
    decoded = halves.prompts(prompter, "decodability", ["AND", "XOR"], 3, 100)
    assert [strip(p) for p in decoded["AND"]] != [strip(p) for p in decoded["XOR"]]
    assert len({strip(p)[-1] for p in decoded["AND"]}) < 100, "with replacement"


def test_prompts_hold_what_they_have_in_common_once():
    """Tens of thousands of prompts have the same few layouts, answers and token ids."""
    rows = [Item(f"{i:04b}", {"A": f"{i % 4:04b}", "B": "1111"}) for i in range(16)]
    template = TemplateSection(separator="\n")
    many = Prompter(build(), template).prompts("A", [[rows[0], row] for row in rows[1:]] * 40, others=("B",))
    assert len(many) == 600 and len({p.text for p in many}) == 15
    assert len({id(p.positions) for p in many}) == len({id(p.demo_answers) for p in many}) == 1
    assert len({id(p.answer_ids) for p in many}) == 4
    assert len({id(ids) for p in many for ids in p.alternatives.values()}) == 1
    apart = [Prompter(build(), template).prompts("A", [[rows[0], row]], others=("B",))[0] for row in rows[1:]]
    assert many == apart * 40, "and are what they are alone"


def test_shown_tokens_name_their_positions():
    (prompt,) = Prompter(build(), TemplateSection()).prompts(
        "T", [[Item("0000", {"T": "1111"}), Item("0001", {"T": "1110"})]]
    )
    shown = show_tokens(prompt, build()).splitlines()
    assert shown[0].split() == ["0", "'<bos>'"]
    assert shown[3].endswith("demo_outputs") and "before_answers" in shown[2]
    assert shown[-2].endswith("last") and shown[-1].endswith("(answer)")
