"""ioi, greater_than, mcqa and agreement: right answers by a literal rule; sources differ in what they say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pytest

from patchboard.errors import SpecError
from patchboard.spec.prompts import TemplateSection
from patchboard.spec.sections import TasksSection
from patchboard.tasks.base import NULL, Item, split_pool
from patchboard.tasks.families.ioi import NAMES
from patchboard.tasks.render import render
from patchboard.tasks.resolve import build_family

FAMILIES = ("ioi", "greater_than", "mcqa", "agreement")


@lru_cache(maxsize=16)
def pool_of(name: str, *options: tuple[str, Any]) -> tuple[Any, list[Item]]:
    fields = {"family": name, "include_null": False, **{key: _listed(value) for key, value in options}}
    family = build_family(TasksSection.model_validate(fields), embedded=False)
    return family, list(family.pool(0))


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def words(item: Item) -> dict[str, str]:
    return {name: item.input[a:b] for name, (a, b) in item.spans.items()}


def changed(base: Item, source: Item) -> list[tuple[str, str]]:
    """The words of the base that differ, each with the source's."""
    pairs = zip(re.findall(r"\w+|\W", base.input), re.findall(r"\w+|\W", source.input), strict=True)
    return [(a, b) for a, b in pairs if a != b]


def right_in_ioi(text: str) -> list[str]:
    """Names that stand in the sentence once; of p_ABC sentences all three do."""
    names = [word for word in re.findall(r"\w+", text) if word in NAMES]
    return [name for name in names if names.count(name) == 1]


@pytest.mark.parametrize("orders", [("ABBA",), ("BABA",), ("ABBA", "BABA")])
def test_ioi_asks_for_the_name_that_stands_there_once(orders):
    family, pool = pool_of("ioi", ("orders", orders))
    assert len(pool) > 900
    for item in pool:
        said, (answer,), (foil,) = words(item), [item.answers["ioi"]], item.foils["ioi"]
        assert right_in_ioi(item.input) == [answer] and said["IO"] == answer and said["S1"] == said["S2"] == foil
        assert ("ABBA" if item.spans["IO"] < item.spans["S1"] else "BABA") in orders
        assert item.spans["S1"] < item.spans["S2"] and item.input.count(foil) == 2
        for name, source in item.sources.items():
            wanted = right_in_ioi(source.input)
            assert [*source.answers.values()] == ([] if name == "abc" else wanted), name
            assert len(wanted) == (3 if name == "abc" else 1) and set(source.spans) == set(item.spans)
            assert all(other not in wanted for other in source.foils.get("ioi", ()))
        io, s = answer, foil
        pair = {io: s, s: io}
        assert changed(item, item.sources["flip"]) == [(a, pair[a]) for a in right_order(said, item)]
        assert changed(item, item.sources["s2_io_flip"]) == [(s, io)]
        assert changed(item, item.sources["s1_io_flip"]) == [(a, pair[a]) for a in right_order(said, item)[:2]]
        new = dict(changed(item, item.sources["random_names"]))
        assert new.keys() == pair.keys() and not {*new.values()} & pair.keys()
        three = [b for _, b in changed(item, item.sources["abc"])]
        assert len({*three}) == 3 and not {*three} & (pair.keys() | {*new.values()})
    assert family.sources(family.options) == tuple(pool[0].sources)


def right_order(said: Mapping[str, str], item: Item) -> list[str]:
    return [said[name] for name in sorted(("IO", "S1", "S2"), key=lambda name: item.spans[name])]


def test_ioi_takes_own_templates():
    family, pool = pool_of("ioi", ("templates", ("[A] saw [B] {x}, so [B] called",)), ("orders", ("BABA",)))
    assert family.spans(family.options) == ("IO", "S1", "S2")
    for item in pool:
        first, second, third = re.fullmatch(r"(\w+) saw (\w+) \{x\}, so (\w+) called", item.input).groups()  # pyright: ignore[reportOptionalMemberAccess]
        assert first == third == item.foils["ioi"][0] and second == item.answers["ioi"]
    fit, evaluate = split_pool(pool, 0)
    assert abs(len(fit) - len(evaluate)) < 20, "few sentences, and yet not all are linked by their sources"


@pytest.mark.parametrize(
    ("template", "says"),
    [("[A] and [B] met", "expected [A], [B], [B] in order"), ("[B], [A], [B]", "expected"), ("x", "holds no names"),
     ("[A] [B] [B] [C]", "holds [C], which is no part"), ("[A] [B] [B] [PLACE] [PLACE]", "expected")],
)  # fmt: skip
def test_templates_of_other_parts_are_refused(template, says):
    with pytest.raises(SpecError) as caught:
        pool_of("ioi", ("templates", ("[A] and [B], [B] to", template)))
    assert caught.value.where == "tasks.templates[1]" and says in caught.value.what


def test_greater_than_counts_later_years():
    _, pool = pool_of("greater_than")
    assert len(pool) == 1000
    for item in pool:
        for each in (item, item.sources["from_01"]):
            century, start, again = map(int, re.findall(r"year (\d\d)(\d\d) to the year (\d\d)$", each.input)[0])
            years = {f"{year:02d}" for year in range(100)}
            right = {year for year in years if int(year) > start}
            assert century == again and each.right("greater_than") == right
            assert {*each.foils["greater_than"]} == years - right
            said = words(each)
            assert (said["XX1"], said["YY"], said["XX2"]) == (f"{century}", f"{start:02d}", f"{century}")
        assert changed(item, item.sources["from_01"]) == [(w, w[:2] + "01") for w in re.findall(r"\d{4}", item.input)]
    assert len({item.answers["greater_than"] for item in pool}) > 50


@pytest.mark.parametrize("labels", ["letters", "numbers", "symbols"])
@pytest.mark.parametrize("choices", [2, 4])
def test_mcqa_asks_for_the_label_of_the_stated_colour(labels, choices):
    family, pool = pool_of("mcqa", ("labels", labels), ("choices", choices))
    shown = {"letters": "ABCD"[:choices], "numbers": "1234"[:choices]}
    for item in pool:
        label_of = {}
        for each in (item, *item.sources.values()):
            thing, colour = re.findall(r"^The (\w+) is (\w+)\. What colour is the (?:\1)\?\n", each.input)[0]
            lines = dict(re.findall(r"^(\w)\. (\w+)$", each.input, re.M))
            (label,) = (label for label, choice in lines.items() if choice == colour)
            assert len(lines) == len({*lines.values()}) == choices and each.answers == {"mcqa": label}
            assert {*each.foils["mcqa"]} == lines.keys() - {label}
            said = words(each)
            assert (said["right_label"], said["right_choice"], said["colour"]) == (label, colour, colour)
            assert said["fact"] == f"The {thing} is {colour}."
            assert lines == {said[f"label{n}"]: said[f"choice{n}"] for n in range(1, choices + 1)}
            label_of[each.input] = lines
        own, moved, other = label_of.values()
        assert "".join(own) == shown.get(labels, "".join(own))
        assert [*own] == [*moved] and sum(own[label] != moved[label] for label in own) == 2
        assert item.sources["other_position"].answers != item.answers
        assert [*own.values()] == [*other.values()] and not own.keys() & other.keys()
    assert set(family.spans(family.options)) == set(pool[0].spans)


def test_agreement_follows_the_subject():
    _, pool = pool_of("agreement")
    assert len(pool) > 900
    for item in pool:
        for each in (item, *item.sources.values()):
            subject = re.findall(r"^The (\w+) ", each.input)[0]
            plural = subject.endswith("s")
            assert each.right("agreement") == ({"are", "were", "have"} if plural else {"is", "was", "has"})
            assert each.answers["agreement"] == ("are" if plural else "is")
            assert each.foils["agreement"] == (("is", "was", "has") if plural else ("are", "were", "have"))
            assert words(each) == {"subject": subject, "distractor": each.input.split()[-1]}
        for name, span in (("number", "subject"), ("distractor", "distractor")):
            ((a, b),) = changed(item, item.sources[name])
            assert a == words(item)[span] and a[:3] == b[:3] and abs(a.endswith("s") - b.endswith("s")) == 1
        assert item.sources["number"].answers != item.answers == item.sources["distractor"].answers


@pytest.mark.parametrize("name", FAMILIES)
def test_a_sentence_goes_on_with_its_answer_in_the_template_that_the_docs_name(name):
    _, pool = pool_of(name)
    glue = "" if name == "greater_than" else " "  # the digits go on with the century's
    template = TemplateSection(input="{input}", output=glue + "{output}", separator="\n\n")
    text = render(template, name, pool[:2]).text
    assert text == f"{pool[0].input}{glue}{pool[0].answers[name]}\n\n{pool[1].input}"


@pytest.mark.parametrize("name", FAMILIES)
def test_nulls_answers_leave_the_sentences_as_they_are(name):
    family, pool = pool_of(name)
    with_null = build_family(TasksSection(family=name), embedded=False)
    assert with_null.tasks == (name, NULL) and family.tasks == (name,)
    both = with_null.pool(0)
    assert [(i.input, i.answers[name], i.sources) for i in both] == [
        (i.input, i.answers[name], i.sources) for i in pool
    ]
    assert {name: i.answers[name] for i in both for name in i.answers} and len({i.answers[NULL] for i in both}) > 1
