"""The likeliest next tokens: ties, values that are no numbers, and which queries they are kept of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from patchboard.engine import top_tokens
from patchboard.engine.top_tokens import largest
from patchboard.errors import SpecError
from patchboard.execution.top_tokens import texts_of
from patchboard.metrics import METRICS
from patchboard.plan import shown
from patchboard.plan.facts import ModelFacts
from patchboard.plan.shown import every_nth, with_top_tokens
from tests.models import byte_level_tokenizer

ROWS = st.lists(st.sampled_from([-1.5, 0.0, -0.0, 2.0, 7.25, float("-inf"), float("inf"), float("nan")]), min_size=4)


@given(st.integers(1, 4), ROWS, st.integers(1, 3))
def test_the_largest_values_come_first_and_of_equal_ones_the_lower_index(count, row, times):
    """Against Python's own sort; NaN is the smallest, with minus infinity."""
    table = [row, row[::-1], [0.0] * len(row)][:times]
    index, value = largest(torch.tensor(table), count)
    for given_row, indices, values in zip(table, index.tolist(), value.tolist(), strict=True):
        numbers = [float("-inf") if number != number else number for number in given_row]
        expected = sorted(range(len(numbers)), key=lambda i: (-numbers[i], i))[:count]
        assert indices == expected and values == [numbers[i] for i in expected]


@pytest.mark.parametrize("at_once", [1 << 24, 60])
def test_what_is_kept_of_a_batch(monkeypatch, at_once):
    """Slices or not, of the queries that ``every`` divides: a pack names its prompts in any order."""
    monkeypatch.setattr(top_tokens, "_AT_ONCE", at_once)
    logits = torch.randn(7, 29, generator=torch.Generator().manual_seed(0)).bfloat16()
    logits[2, 5:12] = 9.0  # equal ones, in bfloat16 as in any model
    reads, targets = torch.tensor([0, 1, 2, 3, 4, 5, 6, 2]), torch.tensor([5, 6, 9, 28, 0, 1, 2, 11])
    top = SimpleNamespace(count=4, every=3, reads=torch.tensor([0, 2, 4, 6, 7]), prompts=torch.tensor([2, 2, 3, 5, 5]))
    batch = SimpleNamespace(top=top, reads=reads, targets=targets, queries=torch.tensor([4, 8, 6, 7, 5, 9]))
    found = top_tokens.top_tokens(logits, batch)  # type: ignore[arg-type]  # of a batch it reads these
    kept = [0, 2, 6, 7]  # of prompts 6, 6, 9 and 9
    rows = logits[reads[kept]].float()
    score = METRICS["rank"].score(rows, targets[kept], targets[kept], rows)
    assert found["rank"].tolist() == score.int().tolist() and found["rank"][1] == found["rank"][3]
    assert found["ids"][1].tolist() == [5, 6, 7, 8]
    expected = rows.log_softmax(-1)
    torch.testing.assert_close(found["answer"], expected.gather(-1, targets[kept][:, None])[:, 0])
    torch.testing.assert_close(found["logprobs"], expected.gather(-1, found["ids"]))
    torch.testing.assert_close(found["logprobs"], expected.topk(4).values)


def test_nothing_is_kept_where_no_query_of_a_batch_is_shown():
    top = SimpleNamespace(count=2, every=50, reads=torch.tensor([0]), prompts=torch.tensor([0]))
    batch = SimpleNamespace(
        top=top, reads=torch.tensor([0]), targets=torch.tensor([1]), queries=torch.tensor([4, 8, 6, 7, 5, 9])
    )
    found = top_tokens.top_tokens(torch.zeros(1, 9), batch)  # type: ignore[arg-type]
    assert {name: tuple(values.shape) for name, values in found.items()} == {
        "ids": (0, 2), "logprobs": (0, 2), "answer": (0,), "rank": (0,),
    }  # fmt: skip


def test_more_tokens_than_a_model_knows_are_refused():
    plan = SimpleNamespace(facts=ModelFacts("llama", 4, 48, 11))
    with pytest.raises(SpecError, match="outcomes.top_tokens: found 12, the model knows 11 tokens; use at most 11"):
        with_top_tokens([plan], 12)  # type: ignore[list-item]


def test_a_page_holds_so_many_values_at_most(monkeypatch):
    monkeypatch.setattr(shown, "MOST_VALUES", 100)
    assert [every_nth(values) for values in (0, 100, 101, 200, 201)] == [1, 1, 2, 2, 3]


def test_a_tokens_text_has_the_space_that_it_adds():
    """Of a tokenizer that drops the first space of a text, as Llama 2's; of one whose parts of characters are bytes."""
    core = Tokenizer(models.WordLevel({"\u2581the": 0, "\u2581dog": 1, "s": 2}, "s"))
    core.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    assert tokenizer.decode([0]) == "the"
    assert list(map(texts_of(tokenizer), (0, 1, 2))) == [" the", " dog", "s"]
    of_bytes = byte_level_tokenizer()
    text = texts_of(of_bytes)
    assert [text(i) for i in of_bytes(" \u20ac").input_ids] == ["<s>", " ", *3 * ["\ufffd"]]
