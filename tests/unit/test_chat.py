"""Prompts as conversations: the template's own tokens, positions that hold their fields, and what cannot be told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import patchboard as pb
from patchboard.errors import SpecError, TaskError
from patchboard.spec import study_of
from patchboard.spec.prompts import TemplateSection
from patchboard.tasks.base import Item
from patchboard.tasks.chat import Chat
from patchboard.tasks.contrast import contrast_prompts
from patchboard.tasks.encode import Encoder
from patchboard.tasks.prompts import Prompter
from tests.models import byte_level_tokenizer

CHATML = (
    "{% for m in messages %}{{ '[' + m['role'] + ']\n' + m['content'] + '[end]\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]\n' }}{% endif %}"
)
WITH_BOS = "{{ bos_token }}" + CHATML
TRIMMED = WITH_BOS.replace("m['content']", "m['content'] | trim")
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + WITH_BOS
LOUD = WITH_BOS.replace("m['content']", "m['content'] | upper")
TWICE = WITH_BOS + "{{ messages[0]['content'] }}"
THINKING = CHATML.replace("{{ '[assistant]\n' }}", "{{ '[assistant]\n<think>' }}")
DATED = "{{ strftime_now('%d %b %Y') }}" + CHATML
PLAIN = TemplateSection(input="{input}", output="{output}")


def tokenizer(template: str | None):
    made = byte_level_tokenizer()
    made.chat_template = template
    return made


def messages(rows: list[Item], system: str | None = None) -> list[dict[str, str]]:
    turns = [turn for row in rows for turn in (("user", row.input), ("assistant", row.answers["T"]))][:-1]
    turns = [("system", system), *turns] if system else turns
    return [{"role": role, "content": content} for role, content in turns]


words = st.text(alphabet="abcdeé01 [user]end\n", min_size=1, max_size=9).map(str.strip).filter(bool)
items = st.lists(st.builds(lambda i, o: Item(i, {"T": o}), words, words), min_size=1, max_size=4)
SPOKEN = {template: tokenizer(template) for template in (CHATML, WITH_BOS, TRIMMED)}


@settings(max_examples=60, deadline=None)
@given(rows=items, template=st.sampled_from(sorted(SPOKEN)), system=st.sampled_from([None, "be brief 01"]))
def test_tokens_are_the_templates_and_positions_hold_their_fields(rows, template, system):
    """Also where a turn holds what the template writes itself."""
    spoken = SPOKEN[template]
    (prompt,) = Prompter(spoken, PLAIN, "auto", True, system).prompts("T", [rows])
    if prompt.excluded:
        assert "boundary" in prompt.excluded
        return
    own = spoken.apply_chat_template(messages(rows, system), add_generation_prompt=True, return_dict=False)
    bos = spoken.bos_token_id
    assert list(prompt.token_ids) == [bos] * (template == CHATML) + own and prompt.token_ids.count(bos) == 1

    def text(indices) -> str:
        return spoken.decode([(prompt.token_ids + prompt.answer_ids)[i] for i in indices])

    assert rows[-1].input in text(prompt.positions["query"])
    assert text(range(len(prompt.token_ids), len(prompt.token_ids) + len(prompt.answer_ids))) == rows[-1].answers["T"]
    for row, where in zip(rows[:-1], prompt.demo_answers, strict=True):
        assert row.answers["T"] in text(where)
    assert prompt.positions["before_answers"] == tuple(where[0] - 1 for where in prompt.demo_answers)
    for before in (*prompt.positions["before_answers"], prompt.last):
        assert text(range(before + 1)).endswith("[assistant]\n")
    assert prompt.text.endswith("[end]\n[assistant]\n") and list(prompt.positions["all"]) == [*range(prompt.last + 1)]


def test_templates_stand_inside_turns():
    """Prefix before the first input; white space at their ends, which many chat templates leave out, left out here."""
    rows = [Item("dog", {"T": "dogs"}), Item("cat", {"T": "cats"})]
    template = TemplateSection(prefix=" Task {task}.\n", input="Q: {input} ->", output=" {output} !")
    (prompt,) = Prompter(tokenizer(CHATML), template, False, True).prompts("T", [rows], others=("T",))
    assert (
        prompt.text
        == "[user]\nTask T.\nQ: dog ->[end]\n[assistant]\ndogs ![end]\n[user]\nQ: cat ->[end]\n[assistant]\n"
    )
    (plain,) = Prompter(tokenizer(CHATML), template, False).prompts("T", [rows])
    assert "[user]" not in plain.text


def test_all_right_answers_of_a_demonstration_stand_where_its_answer_stands():
    rows = [Item("dog", {"T": "dogs"}, more={"T": ("river",)}), Item("cat", {"T": "cats"})]
    spoken = tokenizer(WITH_BOS)
    (prompt,) = Prompter(spoken, PLAIN, "auto", True).prompts("T", [rows], shots=[0])
    assert [spoken.decode(ids) for ids in prompt.demo_right[0]] == ["dogs", "river"]


def test_the_state_before_a_demonstrations_answer_is_that_of_the_shorter_prompt():
    rows = [Item("dog", {"T": "dogs"}), Item("cat", {"T": "cats"})]
    long, short = Prompter(tokenizer(WITH_BOS), PLAIN, "auto", True).prompts("T", [rows, rows[:1]])
    assert long.token_ids[: long.positions["before_answers"][0] + 1] == short.token_ids


@pytest.mark.parametrize(
    ("template", "system", "shots", "said"),
    [
        (None, None, 1, "prompts.chat: is true, and the model's tokenizer has no chat template"),
        (NO_SYSTEM, "be brief", 1, "prompts.system: the chat template of the model's tokenizer refuses it (no system"),
        (TWICE, None, 0, "prompts.chat: is true, and the chat template of the model's tokenizer has a turn 2 times"),
        (THINKING, None, 1, "prompts.chat: is true, and the chat template opens an earlier answer otherwise"),
        ("{{ bos_token }}" + WITH_BOS, None, 0, "prompts.bos: puts '<s>' in front once, but a prompt's text"),
        ("{{ raise_exception('no') }}", None, 0, "prompts.chat: the chat template of the model's tokenizer refuses"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused(template, system, shots, said):
    rows = [Item("dog", {"T": "dogs"}), Item("cat", {"T": "cats"})][1 - shots :]
    with pytest.raises(SpecError) as error:
        Prompter(tokenizer(template), PLAIN, "auto", True, system).prompts("T", [rows])
    assert error.value.one_line().startswith(said)


def test_a_template_that_thinks_serves_prompts_without_demonstrations():
    (prompt,) = Prompter(tokenizer(THINKING), PLAIN, "auto", True).prompts("T", [[Item("cat", {"T": "cats"})]])
    assert prompt.text.endswith("[assistant]\n<think>") and not prompt.excluded


def test_no_token_for_the_beginning_beside_a_template_that_writes_one():
    with pytest.raises(SpecError, match=r"is false, but a prompt's text begins with '<s>'"):
        Prompter(tokenizer(WITH_BOS), PLAIN, False, True).prompts("T", [[Item("cat", {"T": "cats"})]])
    (prompt,) = Prompter(tokenizer(WITH_BOS), PLAIN, True, True).prompts("T", [[Item("cat", {"T": "cats"})]])
    assert prompt.token_ids.count(0) == 1 and not prompt.frame.again


def test_a_turn_that_the_template_changes_is_left_out():
    kept, lost = Item("CAT", {"T": "cats"}), Item("dog", {"T": "dogs"})
    prompts = Prompter(tokenizer(LOUD), PLAIN, "auto", True).prompts("T", [[kept], [lost]])
    assert [p.excluded for p in prompts] == ["", "the chat template changes what stands in a turn"]


def test_a_prompt_is_the_same_on_every_day():
    assert Chat(tokenizer(DATED)).rendered(["a"]).startswith("26 Jul 2024[user]")


def test_paired_texts_are_turns_of_the_user():
    spoken = tokenizer(WITH_BOS)
    encoder, chat = Encoder(spoken), Chat(spoken, "be brief")
    prompts = contrast_prompts([("dogs", "the river"), ("cats", "cold")], encoder, "x", chat)
    assert prompts["positive"][0].text == "<s>[system]\nbe brief[end]\n[user]\ndogs[end]\n[assistant]\n"
    assert prompts["negative"][1].positions["last"] == (len(prompts["negative"][1].token_ids) - 1,)
    with pytest.raises(TaskError, match="the positive text of pair 0 is changed by the chat template"):
        contrast_prompts([(" dogs", "x")], encoder, "x", Chat(tokenizer(TRIMMED)))


def test_the_field_says_nothing_where_it_is_false():
    bare = study_of({"prompts": {"shots": 2}})
    assert (
        study_of({"prompts": {"shots": 2, "chat": False}}).digest == bare.digest and "chat" not in bare.tree["prompts"]
    )
    spoken = study_of({"prompts": {"shots": 2, "chat": True, "system": "be brief"}})
    assert spoken.digest != bare.digest and spoken.tree["prompts"]["system"] == "be brief"
    swept = study_of({"prompts": {"chat": {"sweep": [False, True]}}})
    assert study_of(swept.tree).digest == swept.digest and len(swept.points) == 2


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ({"system": "x"}, "prompts.system: stands without a chat"),
        (
            {"chat": True, "template": {"separator": "; "}},
            "prompts.template.separator: found the text '; ' beside chat",
        ),
        ({"chat": 1}, "prompts.chat: found the whole number 1"),
    ],
)
def test_fields_that_do_not_go_together(prompts, said):
    with pytest.raises(SpecError) as error:
        study_of({"prompts": prompts})
    assert said in error.value.one_line()


def test_vectors_of_a_swept_chat_are_fitted_apart():
    from tests.models import random_model

    spoken = tokenizer(WITH_BOS)
    model = random_model("llama", vocab_size=len(spoken.get_vocab()))
    tree = {
        "tasks": {"family": "bitwise", "bits": 4, "only": ["AND", "OR"]},
        "prompts": {"shots": 1, "queries": 3, "chat": {"sweep": [False, True]}},
        "interventions": {"added": {"op": "add", "vector": {"mean": "same_task", "shots": 1, "prompts": 3}}},
        "decodability": {"k": 2, "prompts": 4, "shots": [0, 1]},
    }
    (plan,) = pb.load(tree).plan(model=model, tokenizer=spoken).model_plans
    for parts in (plan.fits, plan.decodings):
        texts = [next(iter(part.prompts["AND"])).text for part in parts]
        assert ["[user]" in text for text in texts] == [False, True]
    assert len({recipe.fit for recipe in plan.recipes.values()}) == 2


def test_a_run_of_chats_tells_them(tmp_path):
    """Evaluated, fitted and decoded prompts alike; texts go on behind what opens the assistant's turn."""
    from tests.models import random_model

    spoken = tokenizer(WITH_BOS)
    model = random_model("llama", vocab_size=len(spoken.get_vocab()))
    tree = {
        "tasks": {"family": "bitwise", "bits": 4, "only": ["AND", "OR"]},
        "prompts": {"shots": 1, "queries": 3, "chat": True, "system": "be brief", "template": {"input": "{input}"}},
        "interventions": {"added": {"op": "add", "vector": {"mean": "same_task", "shots": 2, "prompts": 3}}},
        "controls": [], "decodability": {"k": 2, "prompts": 4, "shots": [0, 1]}, "statistics": {"bootstrap": 100},
        "generate": {"tokens": 3, "prompts": 1},
    }  # fmt: skip
    study = pb.load(tree)
    run = pb.run(study, model=model, tokenizer=spoken, out=tmp_path / "run")
    prompts = run.prompts.filter(excluded="")
    assert set(prompts["role"]) == {"evaluate", "fit", "decodability"} and len(prompts) == len(run.prompts)
    assert all(text.startswith("<s>[system]\nbe brief[end]\n[user]\n") for text in prompts["text"])
    assert all(text.count("[user]") == shots + 1 for text, shots in prompts.select("text", "shots").iter_rows())
    assert run.texts["prompt"].str.ends_with("[assistant]\n").all()
    page = (run.path / "report.html").read_text()
    assert "written as a chat by the tokenizer&#39;s template, after the system text &#34;be brief&#34;" in page
    assert not [note for note in run.manifest["fallbacks"] if "again" in note]
    assert "before_answers" in study.plan(model=model, tokenizer=spoken).tokens()
