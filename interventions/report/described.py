"""What was run, in plain sentences made from the resolved spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from patchboard.ops import phrase_of
from patchboard.plan.controls import CONTROLS, Control
from patchboard.report.numbers import listed
from patchboard.spec.positions import POSITIONS, name_and_end
from patchboard.tasks.base import NULL
from patchboard.vectors.fitters import FITTERS

_SOURCES = {
    "same_task": "the prompt's own task",
    "other_task": "another task",
    "null_task": "Null",
    "all_tasks": "all tasks",
}
_SITES = {
    "resid_pre": "the residual stream before the block",
    "resid_post": "the residual stream after the block",
    "attn_out": "the attention's output",
    "mlp_out": "the MLP's output",
    "head": "the output of {heads}, before the output projection,",
    "q": "the query of {heads}",
    "k": "the key of {heads}",
    "v": "the value of {heads}",
    "mlp_pre": "the MLP's {neurons}, before the activation,",
    "mlp_act": "the MLP's {neurons}, behind the activation,",
}
_DONORS = {
    "same_task": "the prompt of the task's next query",
    "other_task": "a prompt of another task",
    "null_task": "a prompt of Null",
    "clean": "the prompt's own unedited run",
    "base": "the row as it was, uncorrupted",
}
_OF_ROW = ("same_task", "clean", "base")
"""Donors that are told from the prompt by more than the task."""
_FROZEN = {
    "none": "all in between following",
    "heads": "all later attention held to the clean run",
    "heads+mlps": "all later attention and MLPs held to the clean run",
}
_OTHERS = {"onwards": "all later ones", "upto": "all earlier ones"}
"""What is edited beside the layer at which a cell stands."""


def describe(spec: Mapping[str, Any], manifest: Mapping[str, Any], tasks: list[str]) -> list[str]:
    """Sentences on models, tasks, prompts, controls and measures. tasks: those that were evaluated."""
    sentences = [_model(model) for model in manifest["models"]]
    queries = f"{_text(spec, 'prompts', 'queries')} queries of each of {listed(tasks)}" if tasks else "no query"
    sentences.append(
        f"Tasks of the family {_text(spec, 'tasks', 'family')}: {queries}, with"
        f" {_text(spec, 'prompts', 'shots')} demonstrations before the query{_drawn(spec)}{_labelled(spec)}."
    )
    if spec["controls"]:
        sentences.append(f"Controls, each at the same places: {_controls(spec['controls'])}.")
    measured = [each for each in values_of(spec, "decodability") if each]
    if measured:
        cd = {"sweep": measured} if len(measured) > 1 else measured[0]
        without = " At one setting of the sweep it is not measured." if None in values_of(spec, "decodability") else ""
        sentences.append(
            "Concept Decodability (CD): the share of prompts whose task is the one most common among the"
            f" {_text(cd, 'k')} nearest other prompts, by their states before the answer;"
            f" {_text(cd, 'prompts')} prompts a label, after {_text(cd, 'shots')} demonstrations.{without}"
        )
        sentences += _floors(spec, measured)
    sentences.append(
        f"Effect: patched minus clean, paired by query. Metrics: {_text(spec, 'metrics')}. Intervals: level"
        f" {_text(spec, 'statistics', 'level')}, percentile bootstrap over queries within each task,"
        f" {_text(spec, 'statistics', 'bootstrap')} resamples."
    )
    return sentences


def _floors(spec: Mapping[str, Any], measured: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What CD is held against. measured: the sections of CD."""
    seed = _text(spec, "prompts", "seed")
    if any(section.get("twin") for section in measured):
        yield (
            "Beside it stands the CD of an untrained twin: the same configuration with random weights (drawn by seed"
            f" {seed}), on the same prompts. CD less the twin's is paired by prompt."
        )
    if any(section.get("shuffled") for section in measured):
        counts = " or ".join(str(section["shuffled"]) for section in measured if section.get("shuffled"))
        yield f"CD of shuffled labels: of the same neighbours, labels in {counts} random orders (drawn by seed {seed})."


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


def describe_interventions(spec: Mapping[str, Any], tasks: Sequence[str] | None = None) -> dict[str, str]:
    """Intervention -> a sentence on what it does, and where. tasks: what names of sources may be; others are rows'."""
    return {name: _section(section, tasks) + "." for name, section in spec["interventions"].items()}


def _section(section: Mapping[str, Any], tasks: Sequence[str] | None) -> str:
    if "sweep" in section:  # the intervention as a whole is swept
        return " or ".join(_section(each, tasks) for each in section["sweep"]) + " (swept)"
    edits = section.get("edits") or [section]
    if section.get("keep"):
        return f"{_edit(section, tasks, several=True)}, but for those that are kept: {_kept(section['keep'])}"
    return (
        _text(edits) if "sweep" in edits else "; then ".join(_edit(e, tasks, several=edits != [section]) for e in edits)
    )


def _kept(keep: Mapping[str, Any]) -> str:
    """Which heads an edit of all others leaves as they are."""
    if "sweep" in keep:
        return _text(keep)
    first, ranking = keep["first"], keep["ranking"]
    if isinstance(ranking, Mapping) and "sweep" not in ranking:
        metric = f" on {_text(ranking['metric'])}" if ranking.get("metric") else ""
        order = (
            f"by {_text(ranking['by'])} of effect{metric} in {_text(ranking['run'])}, {_text(ranking['intervention'])}"
        )
    else:
        order = f"of {_text(ranking)}"
    return f"the first {_text(first)} {order}"


def _model(model: Mapping[str, Any]) -> str:
    size = f"{model['layers']} layers, width {model['width']}, {model['parameters']:,} parameters"
    packaged = model.get("packaged")
    which = f"revision {model['revision']}"
    if packaged:
        which = f"{packaged['title']}; weights rounded to {packaged['quantization']}, from {packaged['package']}"
    return f"Model: {model['name']} ({which}; {size}; {model['dtype']})."


def _edit(edit: Mapping[str, Any], tasks: Sequence[str] | None, several: bool) -> str:
    if edit.get("edges"):
        return f"{_cut(edit)}; {_layers(edit['layers'], several)}"
    made = edit.get("sender") or edit
    op = edit["op"] if isinstance(edit["op"], str) else _text(edit["op"])
    done = phrase_of(op).format(
        place=_place(made, several),
        vector=_operand(edit, tasks),
        donor=_donor(edit.get("source"), tasks),
        receivers=_receivers(edit.get("receivers")),
    )
    strength = "" if edit["strength"] == 1 else f", with strength {_text(edit['strength'])}"
    held = f", {_phrase(_FROZEN, edit.get('frozen') or 'heads')}" if edit.get("sender") else ""
    return f"{done}{held}{strength}; {_layers(made['layers'], several)}"


def _place(made: Mapping[str, Any], several: bool) -> str:
    """Site and tokens: of an edit, or of a sender."""
    if "sweep" in made:
        return _text(made)
    site = _phrase(_SITES, made["site"]).format(heads=_heads(made, several), neurons=_neurons(made))
    return f"{site} at {_position(made['position'])}"


def _receivers(receivers: Any) -> str:
    if receivers is None:
        return "the logits"
    return _text(receivers) if isinstance(receivers, Mapping) else listed(map(_receiver, receivers))


def _receiver(receiver: Mapping[str, Any]) -> str:
    heads = _named_heads(receiver["heads"]) if receiver.get("heads") else ""
    layer = "" if heads else f" of layer {_text(receiver['layer'])}" if "layer" in receiver else " of the last layer"
    site = _phrase(_SITES, receiver["site"]).format(heads=heads, neurons="neurons")
    return f"{site}{layer} at {_position(receiver['position'])}"


def _cut(edit: Mapping[str, Any]) -> str:
    """What a knock-out cuts off from what, and in which heads."""
    edges, heads = edit["edges"], edit.get("heads", "all")
    ends = [_position(edges[end]) for end in ("to", "from")] if "sweep" not in edges else [_text(edges)] * 2
    which = "" if heads == "all" else f" in head{'s' * (not isinstance(heads, int))} {_text(heads)}"
    place = f"the attention of {ends[0]} to {ends[1]}{which}"
    return phrase_of(_text(edit["op"])).format(place=place, vector="", donor="")


def _heads(edit: Mapping[str, Any], several: bool) -> str:
    """Which heads; of several, each is a cell of its own unless the edit is one of several."""
    heads = edit.get("heads", "all")
    if isinstance(heads, int | Mapping):  # one head a cell, or swept
        return f"head {_text(heads)}"
    each = "every head" if heads == "all" else f"heads {_text(heads)}"
    return each if several else f"{each} (one at a time)"


def _neurons(edit: Mapping[str, Any]) -> str:
    """Which neurons: those that are named are edited together."""
    neurons = edit.get("neurons", "all")
    if neurons == "all":
        return "neurons"
    return f"neuron{'s' * (not isinstance(neurons, int))} {_text(neurons)}"


def _donor(source: Any, tasks: Sequence[str] | None) -> str:
    """Whose state is taken, and where it is read if elsewhere; ``other_task`` where the spec names none."""
    told = source if isinstance(source, Mapping) and "sweep" not in source else {"name": source or "other_task"}
    who = _text(told["name"])
    if tasks is not None and isinstance(told["name"], str) and who not in (*_DONORS, *tasks, NULL):
        return f"the row's counterfactual input {who}" + _read_elsewhere(told)
    alike = "" if who in _OF_ROW else " (with the same query, where tasks share their inputs)"
    return _DONORS.get(who, f"a prompt of {who}") + alike + _read_elsewhere(told)


def _read_elsewhere(told: Mapping[str, Any]) -> str:
    places = [f"layer {_text(told['layer'])}"] if "layer" in told else []
    places += [_phrase(_SITES, told["site"]).format(heads="the head")] if "site" in told else []
    places += [_position(told["position"])] if "position" in told else []
    ends = {"first": "the first token of each", "last": "the last token of each", "all": "further tokens take its last"}
    places += [_phrase(ends, told["align"])] if "align" in told else []
    return f", read at {', '.join(places)}" if places else ""


def _operand(edit: Mapping[str, Any], tasks: Sequence[str] | None) -> str:
    """A vector, or the state that stands in its place."""
    source = edit.get("source")
    return _vector(edit.get("vector")) if source is None else f"what it is in {_donor(source, tasks)}"


def _vector(vector: Mapping[str, Any] | None) -> str:
    if vector is None:
        return "no vector"
    if "sweep" in vector:
        return _text(vector)
    what = _kind(vector)
    if vector.get("file") or vector.get("contrast"):
        return f"{what}{_fitted_at(vector.get('fitted_at'))}"
    which = "correctly answered " if vector["only"] == "correct" and vector.get("mean") != "null_task" else ""
    prompts = f"up to {_text(vector['prompts'])} {which}prompts a task of {_text(vector['shots'])} demonstrations"
    return f"{what} ({prompts})"


def _kind(vector: Mapping[str, Any]) -> str:
    """The vector by its kind's phrase, or, where its plug-in is not here, by its fields."""
    kinds = [kind for kind in FITTERS if vector.get(kind)]
    if not kinds:
        return f"a vector ({_text(dict(vector))})"
    (kind,) = kinds
    value = vector[kind]
    sources = [_phrase(_SOURCES, source) for source in (value if isinstance(value, list) else [value])]
    of_sources = "{first} and {second}" if len(sources) > 1 else "{first}"
    swept_pair = FITTERS[kind].takes == "pair" and len(sources) == 1
    phrase = "" if swept_pair else FITTERS[kind].phrase
    phrase = phrase or f"the {kind} of {of_sources}"
    return phrase.format(
        first=sources[0],
        second=sources[-1],
        rank=f"{_text(vector['rank'])}-dimensional " if vector.get("rank") else "",
        method=_text(vector.get("method", "")),
        heads=_named_heads(vector["heads"]) if vector.get("heads") else "",
        key=_text(vector["key"]) if vector.get("key") else "",
    ).replace("  ", " ")


def _fitted_at(place: Any) -> str:
    """Of a file's vector that is used elsewhere."""
    if place is None:
        return ""
    told = {"layer": place} if not isinstance(place, Mapping) or "sweep" in place else place
    return " fitted at " + ", ".join(f"{name} {_text(value)}" for name, value in told.items())


def _named_heads(pairs: Any) -> str:
    """``heads 2.1 and 3.0``: block, then head."""
    if isinstance(pairs, Mapping):
        return " or ".join(map(_named_heads, pairs["sweep"])) + " (swept)"
    return f"head{'s' * (len(pairs) > 1)} " + listed(f"{layer}.{head}" for layer, head in pairs)


def _position(position: Any) -> str:
    if isinstance(position, list):
        return listed(map(_position, position))
    if isinstance(position, str):
        name, end = name_and_end(position)
        of_name = POSITIONS[name].phrase if name in POSITIONS else f"the tokens of {name}"
        return f"the {end} of {of_name}" if end else of_name
    return f"token {position}" if isinstance(position, int) else _text(position)


def _layers(layers: Any, several: bool) -> str:
    if isinstance(layers, Mapping) and "sweep" not in layers:
        ((key, value),) = layers.items()
        return f"layers {_text(value)} together" if key == "together" else _with_others(value, _OTHERS[key])
    if isinstance(layers, list) and len(layers) == 1:
        (layers,) = layers
    if isinstance(layers, int):
        return f"layer {layers}"
    if several:
        return f"layers {_text(layers)}"
    return "every layer, one at a time" if layers == "all" else f"layers {_text(layers)}, one at a time"


def _with_others(layers: Any, others: str) -> str:
    if isinstance(layers, list) and len(layers) == 1:
        (layers,) = layers
    if isinstance(layers, int):
        return f"layer {layers} and {others}"
    each = "every layer" if layers == "all" else f"each of layers {_text(layers)}"
    return f"{each} with {others}, one such cell a layer"


def values_of(node: Any, *path: str) -> list[Any]:
    """The values of a leaf of the spec, None where it is not given; a sweep may stand anywhere on the way."""
    if isinstance(node, Mapping) and "sweep" in node:
        return [value for each in node["sweep"] for value in values_of(each, *path)]
    return values_of(node.get(path[0]), *path[1:]) if path else [node]


def _controls(node: Any) -> str:
    if isinstance(node, Mapping):
        return " or ".join(map(_controls, node["sweep"])) + " (swept)"
    return listed(map(_control, node)) if node else "none"


def _control(control: Mapping[str, Any]) -> str:
    if "sweep" in control:
        return " or ".join(map(_control, control["sweep"])) + " (swept)"
    draws = "" if control["draws"] == 1 else f", {_text(control['draws'])} draws"
    name = _text(control["name"])
    phrase = (CONTROLS.get(name, "controls") if name in CONTROLS else Control).phrase
    return f"{name} ({phrase}{draws})"


def _phrase(phrases: Mapping[str, str], value: Any) -> str:
    return phrases.get(value, value) if isinstance(value, str) else _text(value)


def _text(node: Any, *path: str) -> str:
    """A leaf of the spec as text. A sweep may stand at the leaf or anywhere above it."""
    if isinstance(node, Mapping) and "sweep" in node:
        return f"{listed(_text(each, *path) for each in node['sweep'])} (swept)"
    if path:
        return _text(node[path[0]], *path[1:])
    if isinstance(node, Mapping):
        return ", ".join(f"{key}: {_text(value)}" for key, value in node.items())
    return listed(map(_text, node)) if isinstance(node, list) else str(node)
