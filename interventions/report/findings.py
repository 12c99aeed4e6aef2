"""What a run found and what limits it, as sentences made from its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from patchboard.measure.floors import floors_in
from patchboard.plan.controls import CONTROLS, Control
from patchboard.report.circuits import of_circuits
from patchboard.report.described_values import values_of
from patchboard.report.guarded_findings import sentences_of_guardedness
from patchboard.report.learned_findings import sentences_of_learned
from patchboard.report.numbers import (
    above_twin,
    between,
    counted,
    covers_zero,
    fraction,
    listed,
    place_words,
    plain,
    signed,
    spans,
    with_interval,
)
from patchboard.report.probe_findings import sentences_of_probes
from patchboard.report.run_files import Run, setting_label
from patchboard.report.screen_findings import sentences_of_screen

_LITTLE_ROOM = 0.05
"""An accuracy this near 0 or 1 can hardly fall or rise, whatever an edit does."""

_AXES = {"onwards": "from {} on", "upto": "up to {}"}
"""What a cell edits, by the layer at which it stands."""


def findings(summary: Mapping[str, Any]) -> list[str]:
    """A few sentences per intervention, for every swept setting; then accuracy against CD."""
    sentences = []
    kept = {entry["intervention"] for entry in summary.get("faithfulness", ())}
    for name, entry in summary["interventions"].items():
        for point in entry["points"] if name not in kept else ():
            sentences.append(" ".join(_of_point(name, point, summary["metric"])))
    sentences += of_circuits(summary)
    sentences += sentences_of_learned(summary.get("learned") or [])
    sentences += sentences_of_screen(summary.get("screen") or {})
    sentences += _of_floors(summary.get("decodability") or {})
    sentences += sentences_of_probes(summary.get("probes") or {})
    sentences += sentences_of_guardedness(summary.get("guardedness") or [])
    fit = summary["accuracy_against_cd"]
    if fit and fit["slope"] is not None:
        layer = f" at layer {fit['layer']}" if "layer" in fit else ""
        sentences.append(
            f"Over tasks and numbers of demonstrations, accuracy goes with CD{layer} as {plain(fit['intercept'])}"
            f" {signed(fit['slope'])} x CD, R² = {fraction(fit['r2'])} (n = {fit['n']})."
        )
    return sentences


def best_what(summary: Mapping[str, Any]) -> str:
    """What is chosen: a layer, or a head of one as well (``2.h3`` in a table)."""
    points = (point for entry in summary["interventions"].values() for point in entry["points"])
    return "layer" if all(point.get("head") is None for point in points) else "layer or head"


def _of_point(name: str, point: Mapping[str, Any], metric: str) -> Iterator[str]:
    where = ", ".join(filter(None, (name, setting_label(point["at"]))))
    if point["best_layer"] is None or point["effect"] is None:
        yield f"{where}: no query could be measured."
        return
    head, axis = point.get("head"), point.get("axis")
    yield (
        f"{where}: the largest effect is at {place_words(point['layers'], head, axis)}, where {metric} goes from"
        f" {plain(point['clean'])} to {plain(point['patched'])}: {with_interval(point)}, on {point['n']} queries that"
        f" had no part in choosing the {'layer' if head is None else 'head'}."
    )
    if covers_zero(point):
        yield "That is not told apart from no effect." + _room(point, metric)
    elif axis and point.get("causal"):
        layers = f"layer{'s' * (len(point['causal']) > 1)} {spans(point['causal'])}"
        edited = _AXES[axis].format(layers)
        yield f"Over all queries, the interval of editing {edited} leaves out zero, at no other layer."
    yield from _controls(point)
    if point.get("conversion"):
        rates = (f"{plain(entry['patched'])} ({control or 'itself'})" for control, entry in point["conversion"].items())
        yield f"Answers that become those of the task or prompt whose vector or state is used: {listed(rates)}."
    if point.get("cd_at_best_layer") is not None:
        there = "there" if head is None and axis is None else f"after layer {point['best_layer']}"
        yield f"CD {there} is {fraction(point['cd_at_best_layer'])}, chance {fraction(point['chance'])}{_above(point)}."
    relation = point.get("correlation")
    if relation and relation["spearman"] is not None:
        over = (
            f"Over {relation['layers']} layers, CD after each and the effect of editing {_AXES[axis].format('it')}"
            if axis
            else f"Over {relation['layers']} layers, CD and effect"
            if head is None
            else f"Over {relation['layers']} heads, CD after the head's layer and the head's effect"
        )
        above = point.get("correlation_above_twin")
        less = f", CD less the untrained twin's {_rank(above)}" if above and above["spearman"] is not None else ""
        yield f"{over} have rank correlation {_rank(relation)}{less}."
    idle = point.get("decodable_but_not_causal")
    if idle:
        whose = "the" if head is None else "every edited head's"
        editing = f" of editing {_AXES[axis].format('there')}" if axis else ""
        learned = " (also beside an untrained twin's)" if point.get("above_twin") else ""
        yield (
            f"Decodable is not causal: at layer{'s' * (len(idle) > 1)} {spans(idle)} CD is high{learned}, yet the"
            f" interval of {whose} effect{editing} covers zero." + ("" if covers_zero(point) else _room(point, metric))
        )


def _rank(relation: Mapping[str, Any]) -> str:
    """``+0.78 [+0.52, +0.91]``"""
    return f"{relation['spearman']:+.2f} [{relation['ci_low']:+.2f}, {relation['ci_high']:+.2f}]"


def _above(point: Mapping[str, Any]) -> str:
    twin = point.get("above_twin")
    return f"; less that of an untrained twin ({fraction(twin['twin'])}) {above_twin(twin)}" if twin else ""


def _of_floors(cd: Mapping[str, Any]) -> Iterator[str]:
    """What CD is beside an untrained twin's, and what shuffled labels give. cd: the summary's ``decodability``."""
    twin, shuffled = cd.get("above_twin"), cd.get("shuffled")
    if twin:
        yield (
            f"CD is highest above that of an untrained twin at layer {twin['layer']}"
            f" ({counted(twin['shots'], 'shot')}): by {above_twin(twin)}, {between(twin, 'cd')} against"
            f" {between(twin, 'twin', bounds='twin')}."
        )
        if not twin["above_twin_low"] > 0:
            yield "So none of it is told apart from what the prompts' looks give to a network that has learned nothing."
    if shuffled:
        yield (
            f"With the labels shuffled over the prompts CD at layer {cd['layer']} is"
            f" {between(shuffled, 'shuffled', bounds='shuffled')}, chance {fraction(cd['chance'])}."
        )


def _controls(point: Mapping[str, Any]) -> Iterator[str]:
    controls = {name: entry for name, entry in point["controls"].items() if entry["effect"] is not None}
    if not controls:
        return
    each = (f"{name} {with_interval(entry)}" for name, entry in controls.items())
    yield f"Controls there: {listed(each)}."
    for meaning, names in _by_meaning(controls_alike(point)).items():
        yield f"The interval overlaps that of {listed(names)}: {meaning}."


def controls_alike(point: Mapping[str, Any]) -> list[str]:
    """Controls whose interval overlaps that of an effect which is told from zero."""
    return [
        name
        for name, entry in point["controls"].items()
        if entry["effect"] is not None
        and not covers_zero(point)
        and entry["ci_low"] <= point["ci_high"]
        and point["ci_low"] <= entry["ci_high"]
    ]


def _by_meaning(controls: Sequence[str]) -> dict[str, list[str]]:
    """What an overlap with a control means -> the controls of which it means that."""
    names_of: dict[str, list[str]] = {}
    for name in controls:
        control = CONTROLS.get(name, "controls") if name in CONTROLS else Control
        names_of.setdefault(control.overlap, []).append(name)
    return names_of


def _room(point: Mapping[str, Any], metric: str) -> str:
    """A warning where the clean run leaves the metric no way to move."""
    low, high = point["clean"] <= _LITTLE_ROOM, point["clean"] >= 1 - _LITTLE_ROOM
    if metric != "accuracy" or not (low and point["effect"] <= 0 or high and point["effect"] >= 0):
        return ""
    way = "fall" if low else "rise"
    return f" (Without the edit accuracy is {plain(point['clean'])}: it has little room to {way}.)"


def caveats(run: Run) -> list[str]:
    """What limits the numbers: rounding, fallbacks, exclusions, and what the intervals leave out."""
    manifest = run.manifest
    sentences = []
    floor = {name: value for name, value in manifest["noise_floor"].items() if value is not None}
    if floor:
        each = listed(f"{name} {plain(value)}" for name, value in floor.items())
        sentences.append(
            f"Noise floor: patching a prompt with its own state changed the metrics by at most {each}"
            f" (exact match flipped in {100 * manifest['flip_rate']:.2g} % of such runs). What is smaller is rounding."
        )
    sentences += departures(manifest)
    smallest = run.own["n"].min()
    if isinstance(smallest, int) and smallest < 50:
        sentences.append(f"Some means rest on {smallest} queries only; bootstrap intervals of so few are too narrow.")
    if len(run.own):
        sentences.append(
            f"{len(run.own)} intervals of {run.metric} are drawn, and none is corrected for their number: some leave"
            " out the truth. The best layer's effect is safe from that, being measured on queries that did not choose"
            " it."
        )
    if "twin" in floors_in(run.decodability):
        sentences.append(
            "The untrained twin is one draw of random weights, and intervals do not hold that draw: repeat over"
            " prompts.seed, which draws the twin as well."
        )
    if "shared" in values_of(run.spec, "prompts", "demonstrations"):
        sentences.append(
            "With shared demonstrations all queries of a task stand behind one draw of them, and intervals do not hold"
            " that draw: repeat over prompts.seed."
        )
    sentences.append(
        "Intervals hold the choice of queries, not that of the fit prompts, the tasks or the model: another set of"
        " fit prompts gives another vector. Repeat with {sweep: [...]} over prompts.seed to see how much that matters."
    )
    return sentences


def departures(manifest: Mapping[str, Any]) -> list[str]:
    """Where a run could not do what its spec says: fallbacks, and queries left out."""
    sentences = [f"Fallback: {each}." for each in manifest["fallbacks"]]
    for task, reasons in manifest["excluded"].items():
        each = listed(f"{count} ({reason})" for reason, count in reasons.items())
        sentences.append(f"Left out of {task}: {each} of the evaluated queries.")
    return sentences
