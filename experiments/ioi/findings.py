"""The story in words and in tables of text, from its summary alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from patchboard.experiment.page import Table
from patchboard.experiments.ioi.measures import ALL
from patchboard.report.numbers import between, counted, fraction, listed, place_label, signed, spans

Summary = Mapping[str, Any]
Row = Mapping[str, Any]

SENTENCES = {"turned": "turned", "flip": "flipped", "reordered": "reordered"}
FEW = 4
"""Heads that a sentence names."""
MANY = 10
"""Heads of a table."""


def introduction(summary: Summary) -> list[str]:
    """What was run, in sentences."""
    return [
        f"Model {summary['model']}, {summary['layers']} layers of {summary['heads_of_a_layer']} heads. A sentence as"
        ' "When Mary and John went to the store, John gave a drink to" goes on with Mary, the indirect object (IO), and'
        " not with John, the subject, who stands there twice (S1, S2). Logit difference: the logit of IO's name less"
        " that of the subject's, at the last token.",
        "States of another sentence are put into this one (interchange). Flipped: the two names exchanged everywhere,"
        " so that the other name is right, in the same place. Turned: it is Mary who gives, so that the other name is"
        " right, in the other place. Reordered: the first two names in the other order, so that the same name is"
        f" right, in the other place. Effect: the change of the logit difference, mean over {summary['queries']}"
        " sentences. 2.1 is head 1 of layer 2; layers and heads count from 0.",
        "Layers and heads that are named are chosen on even queries, their effects are of odd ones; maps are of all."
        f" Brackets hold {summary['level']:.0%} of a bootstrap over queries. Paths (path patching, Wang et al. 2022):"
        " one head's output at the last token is that of the other sentence, all attention behind it stays as it was,"
        " MLPs follow; only the receivers, the logits or heads' queries, are given what comes of that.",
    ]


def findings(summary: Summary) -> list[str]:
    return [
        " ".join(part)
        for part in (
            _task(summary), _places(summary), _outputs(summary), _direct(summary), _movers(summary), _cuts(summary),
            _screen(summary),
        )
    ]  # fmt: skip


def _task(summary: Summary) -> Iterator[str]:
    rows = {row["group"]: row for row in summary["task"]}
    every = rows[ALL]
    yield (
        f"The task: IO's name is preferred to the subject's in {fraction(every['preferred'])} of {every['n']}"
        f" sentences, by a logit difference of {between(every, 'difference', signed)}; it is the most probable token in"
        f" {fraction(every['accuracy'])}."
    )
    templates = sorted((row for row in summary["task"] if "[" in row["group"]), key=lambda row: row["difference"])
    if len(templates) > 1:
        low, high = templates[0], templates[-1]
        yield (
            f'By template from {signed(low["difference"])} ("{low["group"]}", preferred in'
            f' {fraction(low["preferred"])}) to {signed(high["difference"])} ("{high["group"]}").'
        )
    orders = [f"{order} {between(rows[order], 'difference', signed)}" for order in ("ABBA", "BABA") if order in rows]
    yield f"By order: {listed(orders)}."


def _places(summary: Summary) -> Iterator[str]:
    of_flip = _largest_places(summary, "flip")
    yield f"Places at which the flipped sentence's state moves the logit difference most: {'; '.join(of_flip)}."
    for source in ("turned", "reordered"):
        told = _largest_places(summary, source)
        if told:
            yield f"Of the {source} sentence: {'; '.join(told)}."


def _largest_places(summary: Summary, source: str) -> list[str]:
    """Of each position the layer of the largest effect on even queries, and at which layers there is half of it."""
    rows = [row for row in summary["places"] if row["source"] == source and row["chosen"] is not None]
    told = []
    for position in dict.fromkeys(row["position"] for row in rows):
        there = [row for row in rows if row["position"] == position]
        best = max(there, key=lambda row: abs(row["chosen"]))
        half = [row["layer"] for row in there if row["effect"] * best["odd"] >= best["odd"] ** 2 / 2]
        sure = not best["odd_low"] <= 0 <= best["odd_high"]
        many = f" (half of that or more: layers {spans(half)})" if len(half) > 1 and sure else ""
        told.append(f"{position} {_odd(best)} at layer {best['layer']}{many}")
    return told


def _outputs(summary: Summary) -> Iterator[str]:
    yield f"Heads at the last token: {_largest(summary, 'output')}"
    yield _by_chance(summary, "output")
    carrying = (f"{_name(_key(row))} {_odd(row)}" for row in _ranked(summary, "output", "reordered")[:2])
    yield f"The reordered sentence's own largest: {listed(carrying)}."


def _direct(summary: Summary) -> Iterator[str]:
    yield f"Direct effect, by paths to the logits alone: {_largest(summary, 'logits')}"
    yield _by_chance(summary, "logits")
    whole, direct = _by_head(summary, "output"), _by_head(summary, "logits")
    first = tuple(summary["movers"][0])
    yield f"Of {_name(first)}'s effect on its own ({_odd(whole[first])}) {_odd(direct[first])} is direct."


def _movers(summary: Summary) -> Iterator[str]:
    movers = listed(_name(head) for head in summary["movers"])
    yield (
        f"Movers, the {counted(len(summary['movers']), 'head')} whose direct effect lowers the logit difference most:"
        f" {movers}. Put into them, all at once: {'; '.join(_attending(summary))}."
    )
    yield f"Through their queries, from heads of the turned sentence: {_largest(summary, 'movers', 'turned')}"
    yield _by_chance(summary, "movers", "turned")
    others = _by_head(summary, "others", "turned")
    there = [others[key] for key in (_key(row) for row in _ranked(summary, "movers", "turned")[:FEW]) if key in others]
    if there:
        whose = listed(_name(head) for head in summary["others"])
        each = listed(f"{_name(_key(row))} {_odd(row)}" for row in there)
        yield f"The same senders through the queries of as many other heads ({whose}): {each}."


def _attending(summary: Summary) -> Iterator[str]:
    rows = {(row["part"], row["source"]): row for row in summary["attending"]}
    tokens = {"queries": "at the last token", "keys": "at all tokens", "values": "at all tokens"}
    for part, where in tokens.items():
        each = [f"{words} {between(rows[part, source], 'effect', signed)}" for source, words in SENTENCES.items()]
        yield f"{part} {where} of the sentence {', '.join(each)}"


def _cuts(summary: Summary) -> Iterator[str]:
    told = []
    for origin in dict.fromkeys(row["origin"] for row in summary["cuts"]):
        own = [row for row in summary["cuts"] if (row["origin"], row["control"]) == (origin, "")]
        own = [row for row in own if row["chosen"] is not None]
        if not own:
            continue
        best = max(own, key=lambda row: abs(row["chosen"]))
        random = next((row for row in summary["cuts"] if row["control"] and _window(row) == _window(best)), None)
        beside = f", random edges {_odd(random)}" if random else ""
        told.append(f"to {origin} {_odd(best)} in layers {place_label(best['layers'])}{beside}")
    yield f"Attention of the last token cut in the window of layers where that moves it most: {'; '.join(told)}."


def _screen(summary: Summary) -> Iterator[str]:
    if not summary["screen"]:
        yield "A screen by gradients is not made on a host."
        return
    each = [
        f"{row['cells']} {row['part']}: rank correlation with the exact effects {fraction(row['spearman'])}, of the"
        f" {row['of']} largest {row['found']} are among as many largest estimates{_missed(row)}"
        for row in summary["screen"]
    ]
    yield f"A screen by one pass forwards and backwards a sentence (attribution patching), {'; '.join(each)}."


def _missed(row: Row) -> str:
    return "".join(
        f" (not {each['layer']}.{each['place']}, estimated {signed(each['estimate'])}, exactly"
        f" {signed(each['effect'])})"
        for each in row["missed"]
    )


def overview(summary: Summary) -> list[Table]:
    """The tables of the page: the task by template, and heads by each of their effects."""
    task = [
        [
            row["group"],
            between(row, "difference", signed),
            fraction(row["preferred"]),
            fraction(row["accuracy"]),
            str(row["n"]),
        ]
        for row in summary["task"]
    ]
    titles = {
        "output": "Heads by the effect of their output at the last token",
        "logits": "Heads by their direct effect on the logits",
        "movers": f"Heads by their effect through the queries of {listed(_name(head) for head in summary['movers'])}",
    }
    columns = ["head", "even queries", "odd queries [interval]", "all queries", "reordered, all queries"]
    return [
        Table("The task", ["sentences", "logit difference", "preferred", "most probable", "n"], task),
        *(
            Table(title, columns, _table(summary, what, "turned" if what == "movers" else "flip"))
            for what, title in titles.items()
        ),
    ]


def _table(summary: Summary, what: str, source: str) -> list[list[str]]:
    control = _by_head(summary, what, "reordered")
    return [
        [
            _name(_key(row)),
            signed(row["chosen"]),
            _odd(row),
            signed(row["effect"]),
            signed(control[_key(row)]["effect"]),
        ]
        for row in _ranked(summary, what, source)[:MANY]
    ]


def _ranked(summary: Summary, what: str, source: str = "flip") -> list[Row]:
    """Heads by the size of their effect on even queries."""
    rows = [row for row in _by_head(summary, what, source).values() if row["chosen"] is not None]
    return sorted(rows, key=lambda row: -abs(row["chosen"]))


def _by_head(summary: Summary, what: str, source: str = "flip") -> dict[tuple[int, int], Row]:
    return {_key(row): row for row in summary["heads"] if (row["what"], row["source"]) == (what, source)}


def _largest(summary: Summary, what: str, source: str = "flip") -> str:
    control, ranked = _by_head(summary, what, "reordered"), _ranked(summary, what, source)[:FEW]
    each = [f"{_name(_key(row))} {_odd(row)}" for row in ranked]
    same = [signed(control[_key(row)]["odd"]) for row in ranked]
    return f"{listed(each)}; of the reordered sentence the same heads {listed(same)}."


def _by_chance(summary: Summary, what: str, source: str = "flip") -> str:
    of_all, control = _by_head(summary, what, source), _by_head(summary, what, "reordered")
    chance = len(of_all) * (1 - summary["level"])
    return (
        f"Of {len(of_all)} heads {_sure(of_all.values())} have an interval that leaves out zero, with the reordered"
        f" sentence {_sure(control.values())}, by chance some {chance:.0f}."
    )


def _sure(rows: Any) -> int:
    return sum(row["ci_low"] is not None and not row["ci_low"] <= 0 <= row["ci_high"] for row in rows)


def _window(row: Row) -> tuple[str, str]:
    return row["origin"], row["layers"]


def _key(row: Row) -> tuple[int, int]:
    return row["layer"], row["head"]


def _name(head: Sequence[int]) -> str:
    return f"{head[0]}.{head[1]}"


def _odd(row: Row) -> str:
    return between(row, "odd", signed, "odd")
