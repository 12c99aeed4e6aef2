"""Findings on sets of heads, from hand-made numbers."""

from __future__ import annotations

from collections.abc import Mapping

from patchboard.report.circuits import of_circuits


def entry(values: Mapping[int, float | None], control: str = "", cpr: float | None = 0.8) -> dict:
    around = lambda value: {"ci_low": value and value - 0.1, "ci_high": value and value + 0.1}  # noqa: E731
    curve = [{"kept": kept, "faithfulness": value, **around(value), "n": 9} for kept, value in values.items()]
    area = {"value": cpr, **around(cpr)}
    return {"intervention": "c", "control": control, "at": {"shots": 0, "seed": 0}, "heads": 50, "curve": curve,
            "cpr": area, "cmd": area}  # fmt: skip


def found(*entries: dict) -> list[str]:
    return of_circuits({"metric": "logprob", "faithfulness": list(entries)})


def test_the_first_size_that_is_enough_is_named_and_held_against_random_sets():
    own, control = {0: 0.0, 1: 0.4, 5: 0.92, 20: 1.1, 50: 1.0}, {0: 0.0, 1: 0.0, 5: 0.2, 20: 0.5, 50: 1.0}
    (text,) = found(entry(own), entry(control, "random_heads", 0.75))
    assert text == (
        "c: with the first 5 of 50 heads kept and all others edited, faithfulness on logprob is 0.92 [0.82, 1.02], the"
        " first size of at least 0.9. Over the share of heads CPR 0.80 [0.70, 0.90], CMD 0.80 [0.70, 0.90]. As many"
        " random heads: 0.20 [0.10, 0.30] there, CPR 0.75 [0.65, 0.85], CMD 0.75 [0.65, 0.85]. The intervals of CPR"
        " overlap: any heads may do as much."
    )
    (text,) = found(entry(own), entry(control, "random_heads", 0.2))
    assert "overlap" not in text


def test_where_none_is_enough_the_largest_is_told():
    (text,) = found(entry({0: 0.0, 1: 0.4, 20: 0.7, 50: 1.0}))
    assert "the first 20 of 50 heads" in text and "is 0.70 [0.60, 0.80]; no size below 50 reaches 0.9." in text


def test_where_nothing_is_there_to_share_there_is_no_number():
    (text,) = found(entry({0: None, 1: None, 50: None}, cpr=None), entry({0: None}, "random_heads", None))
    assert text == "c: editing all 50 heads is not told apart from no effect, so there is nothing to share out."
    assert found() == []
