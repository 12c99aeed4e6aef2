"""A recommendation in words, and as the section of a spec that does what it recommends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from patchboard.measure.recommend import KL, Rule
from patchboard.report.numbers import listed, place_words, plain, with_interval
from patchboard.report.run_files import setting_label

_BROKEN = {
    "effect": "its effect is not told apart from none",
    "random": "a random counterpart does too much of it",
    KL: "it moves unrelated texts too far",
}


def sentences(entry: Mapping[str, Any], rule: Rule) -> Iterator[str]:
    """What is recommended, or why nothing is. entry: of ``measure.recommend.recommendations``."""
    swept = {field: value for field, value in entry["at"].items() if field not in ("shots", "seed")}
    at = ", ".join(filter(None, (entry["intervention"], setting_label(swept))))
    if entry["choice"] is None:
        yield f"{at}: {_why_none(entry, rule)}"
        return
    yield (
        f"{at}: {_place(entry['choice'])}. {entry['metric']} there: {with_interval(entry['effect'] or {})}, on"
        f" {(entry['effect'] or {}).get('n') or 0} queries that had no part in choosing."
    )
    if entry["random"]:
        yield f"A random counterpart does {with_interval(entry['random'])}."
    if entry[KL]:
        yield f"Unrelated texts: KL {with_interval(entry[KL])} nats at the next word."
    if entry["breaks"]:
        yield f"On these queries the rule does not hold: {listed(_BROKEN[name] for name in entry['breaks'])}."
    best = entry["without_bounds"]
    if any(entry["refused"].values()) and {k: best[k] for k in entry["choice"]} != entry["choice"]:
        yield (
            f"Without bounds it would be {_place(best)}: {plain(best['effect'])} on the choosing queries"
            f"{_beyond(best)}."
        )


def not_measured(entries: list[dict[str, Any]], rule: Rule) -> Iterator[str]:
    """What a bound is on and the run has not measured, so that it refused nothing."""
    for kind, bound, add in (("random", rule.random, "random"), (KL, rule.kl, "unrelated, and kl to metrics")):
        names = dict.fromkeys(entry["intervention"] for entry in entries if not entry["measured"][kind])
        if bound is not None and names:
            yield f"not measured, so not held to a bound: {kind} of {listed(names)} (add {add} to controls)"


def section_of(entry: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """The intervention as the run's spec has it, at the chosen place alone. tree: of the run's spec.yaml."""
    choice, name = entry["choice"], entry["intervention"]
    section = deepcopy(dict(tree["interventions"][name]))
    for path, value in choice.items():
        if path.startswith(f"interventions.{name}."):
            _set(section, path.removeprefix(f"interventions.{name}."), value)
    if section.get("layers") is not None and section.get("sender") is None:
        blocks = [int(block) for block in choice["layers"].split(",")]
        section["layers"] = blocks if len(blocks) == 1 else {"together": blocks}
    if choice["head"] >= 0 and section.get("site") in ("q", "k", "v", "head", "pattern"):
        section["heads"] = [[choice["layer"], choice["head"]]]
    return section


def _set(section: Any, path: str, value: Any) -> None:
    """Put a value at a dotted path, ``edits[1].strength`` among them."""
    *parents, last = path.replace("[", ".").replace("]", "").split(".")
    for key in parents:
        section = section[int(key) if isinstance(section, list) else key]
    section[int(last) if isinstance(section, list) else last] = value


def _place(place: Mapping[str, Any]) -> str:
    """``layer 3, strength 2``, and what else of the intervention was swept."""
    more = {path.split(".", 2)[2]: value for path, value in place.items() if path.startswith("interventions.")}
    more.setdefault("strength", place["strength"])
    told = (f"{path} {value:g}" if isinstance(value, float) else f"{path} {value}" for path, value in more.items())
    return ", ".join([place_words(place["layers"], place["head"]), *told])


def _beyond(best: Mapping[str, Any]) -> str:
    told = [f"random {plain(best['random'])}"] if best["random"] is not None else []
    told += [f"KL on unrelated texts {plain(best[KL])}"] if best[KL] is not None else []
    return f" ({', '.join(told)})" if told else ""


def _why_none(entry: Mapping[str, Any], rule: Rule) -> str:
    if not entry["considered"]:
        way = {"rise": "rises", "fall": "falls"}.get(rule.direction)
        return f"nothing to recommend, {entry['metric']} {f'{way} nowhere' if way else 'was measured nowhere'}."
    best, refused = entry["without_bounds"], entry["refused"]
    limits = {"random": f"a random counterpart within {rule.random} of the effect", KL: f"KL within {rule.kl} nats"}
    each = listed(f"{count} by {limits[kind]}" for kind, count in refused.items() if count)
    return (
        f"no place keeps to the bounds: of {entry['considered']}, refused are {each}. The largest effect is at"
        f" {_place(best)}: {plain(best['effect'])}{_beyond(best)}, on the choosing queries."
    )
