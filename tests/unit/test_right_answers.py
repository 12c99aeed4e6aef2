"""Several right answers: which of them count, and how their scores become one."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.emit.select import Selection, choose
from patchboard.engine.steps import all_right
from patchboard.errors import SpecError, TaskError
from patchboard.measure.scored_group import gather_scores
from patchboard.plan.cells import Edit
from patchboard.plan.model import Counterfactual, Group, ScoredCell
from patchboard.plan.open_group import OpenGroup, foils_of
from patchboard.spec.prompts import TemplateSection
from patchboard.spec.sections import TasksSection
from patchboard.tasks.base import Item
from patchboard.tasks.base import distinct as one_an_input
from patchboard.tasks.prompt import Answer
from patchboard.tasks.prompts import Prompter, show_tokens
from patchboard.tasks.resolve import build_family
from patchboard.tasks.right_answers import distinct


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(build()(text, add_special_tokens=False)["input_ids"])


def test_repeated_answers_and_those_that_begin_with_another_count_once():
    answers = [Answer("x", ids) for ids in ((1, 2, 3), (4,), (1, 2), (4,), (2, 1), (1, 2, 5))]
    assert [answer.ids for answer in distinct(answers)] == [(4,), (1, 2), (2, 1)]


def test_prompts_carry_all_right_answers():
    more = {"A": ("old baker", "cold river", "letter", "unknownword"), "B": ("boat",)}
    query = Item("river", {"A": "cold river", "B": "boat letter"}, more)
    demo = Item("garden", {"A": "old boat"}, {"A": ("letter",)})
    prompter = Prompter(build(), TemplateSection())
    (prompt,) = prompter.prompts("A", [[demo, query]], others=("A", "B"), shots=(0, 1))
    assert prompt.right() == tuple(map(ids_of, ("cold river", "old baker", "letter")))
    assert prompt.right("B") == (ids_of("boat"),) and prompt.alternatives["B"] == ids_of("boat")
    assert prompt.demo_right == {0: (ids_of("old boat"), ids_of("letter"))}
    assert prompt.answers_lost == 1 and "old boat" in prompt.text and "letter" not in prompt.text
    assert "also right: 'old' 'baker'" in show_tokens(prompt, build())
    shortened = Item("river", {"A": "cold river"}, {"A": ("cold",)})
    (prompt,) = prompter.prompts("A", [[shortened]])
    assert (prompt.answer, prompt.right(), prompt.positions["answer"]) == ("cold", (ids_of("cold"),), ())
    plain = prompter.prompts("A", [[Item("river", {"A": "cold river"}, {"A": ("cold river",)})]])
    assert plain == prompter.prompts("A", [[Item("river", {"A": "cold river"})]])


def test_scores_of_further_answers_become_the_first_ones():
    rows = [Item("river", {"A": "cold"}, {"A": ("old", "boat letter")}), Item("garden", {"A": "old"}),
            Item("boat", {"A": "found"}, {"A": ("letter",)})]  # fmt: skip
    prompts = tuple(Prompter(build(), TemplateSection()).prompts("A", [[row] for row in rows]))
    found = OpenGroup("g", prompts, SimpleNamespace(), "A")  # pyright: ignore[reportArgumentType]
    edited = Counterfactual((Edit("patch", "resid_post", 1, '"last"', 1.0, "v"),))
    assert (found.copy(Counterfactual()), found.copy(edited)) == (0, 3) and len(found.copies) == 6
    cell = SimpleNamespace(converts_to="")
    metrics = ("accuracy", "logprob", "probability", "rank", "kl", "logit_difference")
    group = Group("g", "A", 0, 0, prompts, foils_of(prompts), tuple(found.copies), 0, (ScoredCell(cell, 3),), metrics)  # pyright: ignore[reportArgumentType]
    rng = np.random.default_rng(0)
    pairs = [(q, c) for q, prompt in enumerate(prompts) for c in range(6) if c % 3 < len(prompt.right())]
    pairs.remove((2, 4))  # an edit that has no token in that answer
    scores = {name: rng.uniform(0.1, 0.3, len(pairs)) for name in metrics} | {"moved": rng.normal(size=len(pairs))}
    table = pl.DataFrame({"query": [q for q, _ in pairs], "copy": [c for _, c in pairs], **scores})
    rules = {
        "accuracy": np.max,
        "logprob": lambda v: np.log(np.exp(v).sum()),
        "probability": np.sum,
        "rank": np.min,
    }
    for name, values in gather_scores(group, table.iter_slices(4)).values.items():
        assert np.isnan(values[:, [1, 2, 4, 5]]).all(), "taken into the first answers' copies"
        for q in range(3):
            for c in range(2):
                own = table.filter(pl.col("query") == q, pl.col("copy") // 3 == c).sort("copy")[name].to_numpy()
                expected = rules.get(name, lambda v: v[0])(own)
                if (q, c) == (2, 1) and name in rules:
                    expected = np.nan
                np.testing.assert_allclose(values[q, 3 * c], expected, rtol=1e-12)


def test_a_foil_is_no_right_answer():
    row = Item("river", {"A": "cold", "B": "old"}, {"A": ("old", "boat")})
    (prompt, other) = Prompter(build(), TemplateSection()).prompts(
        "A", [[row], [Item("garden", {"A": "letter"})]], others=("B",)
    )
    assert foils_of((prompt, other))[0] == ids_of("letter")[0]


def test_right_is_whatever_one_answer_says():
    hits = torch.tensor([1.0, 0, 1, 1, 0, 1, 1])
    batch = SimpleNamespace(answers=torch.tensor([0, 0, 1, 2, 3, 3, 4]), right_for=torch.tensor([0, 1, 0, 2, 2]))
    assert all_right(batch, hits, 3).tolist() == [True, True, True]  # pyright: ignore[reportArgumentType]
    batch.right_for = torch.tensor([0, 1, 2, 0, 1])
    assert all_right(batch, hits, 3).tolist() == [False, True, True]  # pyright: ignore[reportArgumentType]


def test_no_script_is_emitted_of_several_answers():
    row = Item("river", {"A": "cold"}, {"A": ("old",)})
    prompts = tuple(Prompter(build(), TemplateSection()).prompts("A", [[row], [Item("boat", {"A": "old"})]]))
    plan = SimpleNamespace(groups=[SimpleNamespace(uses=[1], prompts=prompts)], fits=[])
    with pytest.raises(SpecError, match="1 prompts have several right answers"):
        choose(None, [plan], Selection())  # pyright: ignore[reportArgumentType]


def test_inputs_made_one_keep_further_answers():
    first = Item("w 1", {"A": "a"}, {"A": ("b",)})
    same, other = (
        Item("w  1", {"A": "b"}, {"A": ("a",)}),
        Item("w 1 ", {"A": "c", "B": "d"}, {"A": ("a",), "B": ("e",)}),
    )
    (item,), merged = one_an_input([first, same, other])
    assert (item.answers, item.more) == ({"A": "a", "B": "d"}, {"A": ("b",), "B": ("e",)})
    assert (merged.inputs, merged.contradicting) == (2, 1)


ROWS = [{"input": "hot", "output": ["cold", 4, "cold"]}, {"input": "hot", "output": ["4", "cold"]},
        {"input": "hot", "output": "cold"}, {"input": "up", "output": ["down"]}]  # fmt: skip


LISTS = [row | {"output": row["output"] if isinstance(row["output"], list) else [row["output"]]} for row in ROWS]


@pytest.mark.parametrize("name", ["t.json", "t.jsonl", "dataset"])
def test_lists_of_outputs(tmp_path, monkeypatch, name):
    if name == "dataset":
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
        (tmp_path / "t").mkdir()
        columns = [{"input": row["input"], "output": [*map(str, row["output"])]} for row in LISTS]
        (tmp_path / "t" / "train.jsonl").write_text("\n".join(map(json.dumps, columns)))
        options = {"dataset": {"name": str(tmp_path / "t")}}
    else:
        content = json.dumps(ROWS) if name == "t.json" else "\n".join(map(json.dumps, ROWS))
        (tmp_path / name).write_text(content)
        options = {"files": [str(tmp_path / name)]}
    family = build_family(TasksSection(family="pairs", include_null=False, **options), embedded=False)
    hot, up = family.pool(0)
    assert (hot.answers, hot.more, up.answers, up.more) == ({"t": "cold"}, {"t": ("4",)}, {"t": "down"}, {})
    facts = family.describe().get("tasks", family.describe().get("files"))["t"]
    assert (facts["repeated"], facts["contradicting"], facts["several_answers"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("row", "says"),
    [({"input": "a", "output": []}, "row 0 .* empty list as its output"),
     ({"input": "a", "output": ["b", None]}, "row 0 .* has null as its output"),
     ({"input": ["a"], "output": "b"}, "row 0 .* has a list as its input"),
     ({"input": "a", "output": ["b", ["c"]]}, "row 0 .* has a list as its output")],
)  # fmt: skip
def test_lists_that_hold_no_answers(tmp_path, row, says):
    (tmp_path / "t.json").write_text(json.dumps([row]))
    with pytest.raises(TaskError, match=says):
        build_family(TasksSection(family="pairs", files=[str(tmp_path / "t.json")]), embedded=False)
