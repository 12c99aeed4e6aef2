"""What was run, in plain sentences made from the resolved spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from patchboard.plan.controls import CONTROLS, Control
from patchboard.report.described_values import text_of, values_of
from patchboard.report.numbers import listed


def describe(spec: Mapping[str, Any], manifest: Mapping[str, Any], tasks: list[str]) -> list[str]:
    """Sentences on models, tasks, prompts, controls and measures. tasks: those that were evaluated."""
    sentences = [_model(model) for model in manifest["models"]]
    queries = f"{text_of(spec, 'prompts', 'queries')} queries of each of {listed(tasks)}" if tasks else "no query"
    sentences.append(
        f"Tasks of the family {text_of(spec, 'tasks', 'family')}: {queries}, with"
        f" {text_of(spec, 'prompts', 'shots')} demonstrations before the query{_drawn(spec)}{_labelled(spec)}"
        f"{_spoken(spec)}."
    )
    if spec["controls"]:
        sentences.append(f"Controls, each at the same places: {_controls(spec['controls'])}.")
    measured = [each for each in values_of(spec, "decodability") if each]
    if measured:
        cd = {"sweep": measured} if len(measured) > 1 else measured[0]
        without = " At one setting of the sweep it is not measured." if None in values_of(spec, "decodability") else ""
        sentences.append(
            "Concept Decodability (CD): the share of prompts whose task is the one most common among the"
            f" {text_of(cd, 'k')} nearest other prompts, by their states before the answer;"
            f" {text_of(cd, 'prompts')} prompts a label, after {text_of(cd, 'shots')} demonstrations.{without}"
        )
        sentences += _floors(spec, measured)
        sentences += _probes(measured)
    if spec.get("guardedness"):
        sentences.append(
            f"After every intervention that erases, fresh probes ({text_of(spec, 'guardedness', 'probes')}) of the"
            " edited run's states, at the edited layer and all later ones, on the prompts that the subspace was fitted"
            f" on and on {text_of(spec, 'guardedness', 'prompts')} held-out ones a label."
        )
    sentences.append(
        f"Effect: patched minus clean, paired by query. Metrics: {text_of(spec, 'metrics')}. Intervals: level"
        f" {text_of(spec, 'statistics', 'level')}, percentile bootstrap over queries within each task,"
        f" {text_of(spec, 'statistics', 'bootstrap')} resamples."
    )
    return sentences


def _floors(spec: Mapping[str, Any], measured: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What CD is held against. measured: the sections of CD."""
    seed = text_of(spec, "prompts", "seed")
    if any(section.get("twin") for section in measured):
        yield (
            "Beside it stands the CD of an untrained twin: the same configuration with random weights (drawn by seed"
            f" {seed}), on the same prompts. CD less the twin's is paired by prompt."
        )
    if any(section.get("shuffled") for section in measured):
        counts = " or ".join(str(section["shuffled"]) for section in measured if section.get("shuffled"))
        yield f"CD of shuffled labels: of the same neighbours, labels in {counts} random orders (drawn by seed {seed})."


def _probes(measured: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Which probes stand beside CD. measured: the sections of CD."""
    names = dict.fromkeys(name for section in measured for name in section.get("probes", ()))
    if names:
        yield (
            f"Beside CD, probes of the same states: {listed(names)}, fitted on four fifths of the queries and tested on"
            " the others, in turn."
        )


def _drawn(spec: Mapping[str, Any]) -> str:
    """How the demonstrations are drawn, where it is not anew for each query."""
    drawn = values_of(spec, "prompts", "demonstrations")
    if "shared" not in drawn:
        return ""
    shared = "the same ones for all queries of a task"
    return f", drawn anew for every query or {shared} (swept)" if "fresh" in drawn else f", {shared}"


def _labelled(spec: Mapping[str, Any]) -> str:
    """Whose outputs the demonstrations carry, where those are not always their own."""
    labels = values_of(spec, "prompts", "labels")
    if "shuffled" not in labels:
        return ""
    return ", with their own outputs or another's (swept)" if "own" in labels else ", each with another one's output"


def _spoken(spec: Mapping[str, Any]) -> str:
    """Whether prompts are conversations; untold where none is."""
    chats = values_of(spec, "prompts", "chat") if "chat" in spec["prompts"] else [False]
    if True not in chats:
        return ""
    written = ", written as a chat by the tokenizer's template" + " or not (swept)" * (False in chats)
    systems = [each for each in values_of(spec, "prompts", "system") if each] if "system" in spec["prompts"] else []
    return written + "".join(f', after the system text "{each}"' for each in systems)


def _model(model: Mapping[str, Any]) -> str:
    size = f"{model['layers']} layers, width {model['width']}, {model['parameters']:,} parameters"
    packaged = model.get("packaged")
    which = f"revision {model['revision']}"
    if packaged:
        which = f"{packaged['title']}; weights rounded to {packaged['quantization']}, from {packaged['package']}"
    return f"Model: {model['name']} ({which}; {size}; {model['dtype']})."


def _controls(node: Any) -> str:
    if isinstance(node, Mapping):
        return " or ".join(map(_controls, node["sweep"])) + " (swept)"
    return listed(map(_control, node)) if node else "none"


def _control(control: Mapping[str, Any]) -> str:
    if "sweep" in control:
        return " or ".join(map(_control, control["sweep"])) + " (swept)"
    draws = "" if control["draws"] == 1 else f", {text_of(control['draws'])} draws"
    name = text_of(control["name"])
    phrase = (CONTROLS.get(name, "controls") if name in CONTROLS else Control).phrase
    return f"{name} ({phrase}{draws})"
