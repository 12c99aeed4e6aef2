"""Marks of spans in a text: what they give, that writing and reading undo each other, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from patchboard.tasks.marks import MarkError, marked, span_of, unmarked

TEXTS = st.text(st.sampled_from("ab {}:S1é\n"), min_size=1, max_size=24)


def test_marks_are_taken_out_and_their_characters_named():
    text, spans = unmarked("Then {IO: Mary} and {S1:John} saw {{{x:  it}.")
    assert text == "Then Mary and John saw { it."
    assert {name: text[a:b] for name, (a, b) in spans.items()} == {"IO": "Mary", "S1": "John", "x": " it"}
    assert unmarked("no mark, {{ and }}") == ("no mark, { and }", {})


@given(TEXTS, st.lists(st.integers(0, 24), max_size=6))
def test_reading_undoes_writing(text, cuts):
    edges = sorted({c for c in cuts if c <= len(text)})
    spans = {f"n{i}": (a, b) for i, (a, b) in enumerate(zip(edges[::2], edges[1::2], strict=False))}
    assume(all(text[a:b].strip() and text[b : b + 1] != "}" for a, b in spans.values()))
    assert unmarked(marked(text, spans)) == (text, spans)


@given(st.text(st.sampled_from("ab{}: S"), max_size=20))
def test_any_text_is_read_or_refused_in_words(text):
    try:
        plain, spans = unmarked(text)
    except MarkError as error:
        assert error.what and error.remedy
    else:
        assert all(plain[a:b].strip() for a, b in spans.values())
        assert len(plain) <= len(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [("a {S: b", "never closes the mark {S:"), ("a b}", "at character 3 that closes no mark"),
     ("{S: } a", "nothing as S"), ("{S: a} {S: b}", "marks S twice"), ("{S: a {T: b}}", "inside of {S:"),
     ("a {b} c", "character 2 that opens no mark"),
     ("{last: a}", "is the name of a position"), ("{1: a}", "opens no mark"), ("{S: a}}", "never closes")],
)  # fmt: skip
def test_what_is_no_marked_text(text, says):
    with pytest.raises(MarkError) as caught:
        unmarked(text)
    assert says in caught.value.what and caught.value.remedy


@given(TEXTS, TEXTS)
def test_a_part_is_found_where_it_stands_once(part, around):
    text = around + part
    try:
        start, stop = span_of(part, text)
    except MarkError as error:
        assert sum(text[i:].startswith(part) for i in range(len(text))) > 1 and "times" in error.what
    else:
        assert text[start:stop] == part
    with pytest.raises(MarkError, match="nowhere"):
        span_of(part + "x", text)
