"""What each intervention does, in a plain sentence made from the resolved spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from patchboard.ops import phrase_of
from patchboard.report.described_places import (
    SITE_PHRASES,
    layers_of,
    named_heads,
    place_words_of,
    tokens_of,
)
from patchboard.report.described_values import phrase_in, text_of
from patchboard.report.numbers import listed
from patchboard.spec.learned import LEARNED
from patchboard.tasks.base import NULL
from patchboard.vectors.fitters import FITTERS

_SOURCES = {
    "same_task": "the prompt's own task",
    "other_task": "another task",
    "null_task": "Null",
    "all_tasks": "all tasks",
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
        text_of(edits)
        if "sweep" in edits
        else "; then ".join(_edit(e, tasks, several=edits != [section]) for e in edits)
    )


def _kept(keep: Mapping[str, Any]) -> str:
    """Which heads an edit of all others leaves as they are."""
    if "sweep" in keep:
        return text_of(keep)
    first, ranking = keep["first"], keep["ranking"]
    if isinstance(ranking, Mapping) and "sweep" not in ranking:
        metric = f" on {text_of(ranking['metric'])}" if ranking.get("metric") else ""
        run, intervention = text_of(ranking["run"]), text_of(ranking["intervention"])
        order = f"by {text_of(ranking['by'])} of effect{metric} in {run}, {intervention}"
    else:
        order = f"of {text_of(ranking)}"
    return f"the first {text_of(first)} {order}"


def _edit(edit: Mapping[str, Any], tasks: Sequence[str] | None, several: bool) -> str:
    if edit.get("edges"):
        return f"{_cut(edit)}; {layers_of(edit['layers'], several)}"
    made = edit.get("sender") or edit
    op = edit["op"] if isinstance(edit["op"], str) else text_of(edit["op"])
    done = phrase_of(op).format(
        place=place_words_of(made, several),
        vector=_operand(edit, tasks),
        donor=_donor(edit.get("source"), tasks),
        receivers=_receivers(edit.get("receivers")),
    )
    strength = "" if edit["strength"] == 1 else f", with strength {text_of(edit['strength'])}"
    held = f", {phrase_in(_FROZEN, edit.get('frozen') or 'heads')}" if edit.get("sender") else ""
    return f"{done}{held}{strength}; {layers_of(made['layers'], several)}"


def _receivers(receivers: Any) -> str:
    if receivers is None:
        return "the logits"
    return text_of(receivers) if isinstance(receivers, Mapping) else listed(map(_receiver, receivers))


def _receiver(receiver: Mapping[str, Any]) -> str:
    heads = named_heads(receiver["heads"]) if receiver.get("heads") else ""
    layer = "" if heads else f" of layer {text_of(receiver['layer'])}" if "layer" in receiver else " of the last layer"
    site = phrase_in(SITE_PHRASES, receiver["site"]).format(heads=heads, neurons="neurons")
    return f"{site}{layer} at {tokens_of(receiver['position'])}"


def _cut(edit: Mapping[str, Any]) -> str:
    """What a knock-out cuts off from what, and in which heads."""
    edges, heads = edit["edges"], edit.get("heads", "all")
    ends = [tokens_of(edges[end]) for end in ("to", "from")] if "sweep" not in edges else [text_of(edges)] * 2
    which = "" if heads == "all" else f" in head{'s' * (not isinstance(heads, int))} {text_of(heads)}"
    place = f"the attention of {ends[0]} to {ends[1]}{which}"
    return phrase_of(text_of(edit["op"])).format(place=place, vector="", donor="")


def _donor(source: Any, tasks: Sequence[str] | None) -> str:
    """Whose state is taken, and where it is read if elsewhere; ``other_task`` where the spec names none."""
    told = source if isinstance(source, Mapping) and "sweep" not in source else {"name": source or "other_task"}
    who = text_of(told["name"])
    if tasks is not None and isinstance(told["name"], str) and who not in (*_DONORS, *tasks, NULL):
        return f"the row's counterfactual input {who}" + _read_elsewhere(told)
    alike = "" if who in _OF_ROW else " (with the same query, where tasks share their inputs)"
    return _DONORS.get(who, f"a prompt of {who}") + alike + _read_elsewhere(told)


def _read_elsewhere(told: Mapping[str, Any]) -> str:
    places = [f"layer {text_of(told['layer'])}"] if "layer" in told else []
    places += [phrase_in(SITE_PHRASES, told["site"]).format(heads="the head")] if "site" in told else []
    places += [tokens_of(told["position"])] if "position" in told else []
    ends = {"first": "the first token of each", "last": "the last token of each", "all": "further tokens take its last"}
    places += [phrase_in(ends, told["align"])] if "align" in told else []
    return f", read at {', '.join(places)}" if places else ""


def _operand(edit: Mapping[str, Any], tasks: Sequence[str] | None) -> str:
    """A vector, or the state that stands in its place."""
    source, vector = edit.get("source"), edit.get("vector")
    return _vector(vector) if source is None or vector is not None else f"what it is in {_donor(source, tasks)}"


def _vector(vector: Mapping[str, Any] | None) -> str:
    if vector is None:
        return "no vector"
    if "sweep" in vector:
        return text_of(vector)
    what = _kind(vector)
    if vector.get("file") or vector.get("contrast"):
        return f"{what}{_fitted_at(vector.get('fitted_at'))}"
    if any(vector.get(kind) for kind in LEARNED):
        shots = f" of {text_of(vector['shots'])} demonstrations" if "shots" in vector else ""
        learned = f"by gradients, {text_of(vector['steps'])} steps of {text_of(vector['batch'])} at most"
        return f"{what} ({learned}; up to {text_of(vector['prompts'])} prompts{shots})"
    which = "correctly answered " if vector["only"] == "correct" and vector.get("mean") != "null_task" else ""
    if vector.get("value") is not None:
        what += f", at {text_of(vector['value'])} times the largest activation of each"
    prompts = f"up to {text_of(vector['prompts'])} {which}prompts a task of {text_of(vector['shots'])} demonstrations"
    return f"{what} ({prompts})"


def _kind(vector: Mapping[str, Any]) -> str:
    """The vector by its kind's phrase, or, where its plug-in is not here, by its fields."""
    kinds = [kind for kind in FITTERS if vector.get(kind)]
    if not kinds:
        return f"a vector ({text_of(dict(vector))})"
    (kind,) = kinds
    value = vector[kind]
    sources = [phrase_in(_SOURCES, source) for source in (value if isinstance(value, list) else [value])]
    of_sources = "{first} and {second}" if len(sources) > 1 else "{first}"
    swept_pair = FITTERS[kind].takes == "pair" and len(sources) == 1
    phrase = "" if swept_pair else FITTERS[kind].phrase
    phrase = phrase or f"the {kind} of {of_sources}"
    return phrase.format(
        first=sources[0],
        second=sources[-1],
        rank=_rank(vector),
        method=text_of(vector.get("method", "")),
        heads=named_heads(vector["heads"]) if vector.get("heads") else "",
        key=text_of(vector["key"]) if vector.get("key") else "",
        features=_features(vector) if vector.get("sae") else "",
    ).replace("  ", " ")


_BY = {
    "size": "differs most between {0} and {1}",
    "rise": "in {0} is most above that in {1}",
    "fall": "in {0} is most below that in {1}",
}


def _features(vector: Mapping[str, Any]) -> str:
    """Which features of which dictionary."""
    chosen, of = vector.get("select"), f"of the dictionary {text_of(vector['sae'])}"
    if not chosen:
        return f"features {text_of(vector['features'])} {of}"
    which, by = f"the {text_of(vector['top'])} features {of}", vector.get("by") or "size"
    if not isinstance(chosen, list) or not isinstance(by, str):  # swept
        return f"{which} chosen between {text_of(chosen)} by {text_of(by)}"
    first, second = (phrase_in(_SOURCES, source) for source in chosen)
    return f"{which} whose mean activation {_BY[by].format(first, second)}"


def _rank(vector: Mapping[str, Any]) -> str:
    most = "at most " if vector.get("boundless") is True else ""
    return f"{most}{text_of(vector['rank'])}-dimensional " if vector.get("rank") else ""


def _fitted_at(place: Any) -> str:
    """Of a file's vector that is used elsewhere."""
    if place is None:
        return ""
    told = {"layer": place} if not isinstance(place, Mapping) or "sweep" in place else place
    return " fitted at " + ", ".join(f"{name} {text_of(value)}" for name, value in told.items())
