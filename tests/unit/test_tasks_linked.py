"""Items with counterfactual sources: what merging keeps of them, and that halves share no input, sources included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchboard.errors import TaskError
from patchboard.tasks.base import Item, distinct, normal_form, split_pool
from patchboard.tasks.sets import Halves


def linked(text: str, *sources: str, answer: str = "a") -> Item:
    return Item(text, {"task": answer}, sources={f"s{i}": Item(s, {"task": "b"}) for i, s in enumerate(sources)})


def inputs(items: list[Item]) -> set[str]:
    """Normal forms of all inputs, those of sources too."""
    return {normal_form(each.input) for item in items for each in (item, *item.sources.values())}


def test_a_merged_item_keeps_the_first_ones_spans_and_sources_and_each_tasks_own_foils():
    first = Item("w 1", {"up": "a"}, foils={"up": ("b",)}, spans={"w": (0, 1)}, sources={"x": Item("w 2", {"up": "b"})})
    other = Item(
        " w 1", {"up": "c", "down": "d"}, foils={"up": ("e",), "down": ("f",)}, spans={"w": (1, 2)},
        sources={"x": Item("w 3", {"up": "c"}), "y": Item("w 4", {"up": "c"})},
    )  # fmt: skip
    (item,), merged = distinct([first, other])
    assert (item.input, item.answers) == ("w 1", {"up": "a", "down": "d"})
    assert item.foils == {"up": ("b",), "down": ("f",)}
    assert item.spans == first.spans and item.sources == first.sources
    assert (merged.inputs, merged.contradicting) == (1, 1)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.lists(st.integers(0, 60), max_size=2)), min_size=1, max_size=40),
    st.integers(0, 99),
)
def test_halves_share_no_input_sources_included(rows, seed):
    pool = [linked(f" {n}" * (n % 2) or f"{n}", *map(str, sources)) for n, sources in rows]
    fit, evaluate = split_pool(pool, seed)
    assert not inputs(fit) & inputs(evaluate)
    assert [item for item in pool if item in fit or item in evaluate] == pool
    assert len({normal_form(i.input) for i in fit}) <= len({normal_form(i.input) for i in pool}) // 2


def test_pairs_of_inputs_fill_both_halves():
    pool = [linked(f"{n}", f"{n ^ 1}") for n in range(40)]
    fit, evaluate = split_pool(pool, 0)
    assert len(fit) == len(evaluate) == 20
    assert {i.input for i in fit} != {i.input for i in split_pool(pool, 1)[0]}


def test_one_source_of_all_leaves_nothing_to_fit_on():
    fit, evaluate = split_pool([linked(f"{n}", "same") for n in range(6)], 0)
    assert not fit and len(evaluate) == 6


class Chain:
    """Items in a ring, each with the next one as its source."""

    tasks = ("task",)

    def pool(self, seed: int) -> list[Item]:
        return [linked(str(n), str((n + 1) % 60), answer=str(n)) for n in range(60)]


def test_no_demonstration_is_the_querys_own_source():
    """In a ring all are linked, so all are evaluated; without the rule one prompt in three would hold its source."""
    halves = Halves(Chain(), seed=0)
    prompts = halves.rows("evaluate", "task", shots=20, count=60)
    assert len(prompts) == 60
    for *demos, query in prompts:
        assert not {demo.input for demo in demos} & {source.input for source in query.sources.values()}
        assert len({demo.input for demo in demos} | {query.input}) == 21
    with pytest.raises(TaskError, match="leave fewer rows than the 59 demonstrations"):
        halves.rows("evaluate", "task", shots=59, count=1)
