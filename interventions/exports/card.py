"""The card beside exported vectors: what they are, how they were fitted, what they did in the run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from torch import Tensor

from patchboard.api.vectors import parts_of
from patchboard.exports.choose import Chosen, intervention_of
from patchboard.report.described_edits import describe_interventions
from patchboard.report.numbers import listed, place_label, plain, with_interval
from patchboard.report.run_files import Run

CARD = "README.md"
MARK = "patchboard vectors export"
"""By which a card of ours is known."""
_LICENCE = "**Licence**: to be filled in by whoever publishes these files. Mind the terms of the model and of the data."


def card_text(run: Run, chosen: Sequence[Chosen], files: Sequence[Path], tasks: Sequence[str]) -> str:
    """Markdown. files: those written. tasks: whose effects are wanted one by one; none: pooled over all."""
    lines = ["---", "library_name: patchboard", "tags: [activation-steering, patchboard]", "---", ""]
    lines += [f"# Vectors of the run {run.manifest['name']}", "", _LICENCE, ""]
    lines += [f"Written by `{MARK}` from the run of digest `{run.manifest['digest'][:16]}`.", "", "## Files", ""]
    lines += [f"- `{file.name}`" for file in files]
    if any(file.suffix == ".gguf" for file in files):
        lines += ["", "In a `.gguf`, tensor `direction.N` is of the output of block N, counted from 0, as in repeng."]
        lines += ["llama.cpp takes none of block 0."]
    for one in chosen:
        lines += ["", f"## {_model_name(one.model)}", "", *_model(one), "", *_vectors(one, run)]
    lines += ["", "## What they did in the run", "", *_effects(run, chosen, tasks)]
    lines += ["", "## To use them", "", "In a spec of patchboard:", ""]
    lines += ["```yaml", *_usage(chosen[0], run, files), "```", ""]
    return "\n".join(lines)


def _model_name(model: Mapping[str, Any]) -> str:
    return f"Model {model['name']} (revision {model['revision']})"


def _model(one: Chosen) -> Iterator[str]:
    model = one.model
    yield f"- family {model['family']}, {model['layers']} blocks, width {model['width']}, fitted in {model['dtype']}"
    for name in ("adapter", "quantization"):
        if name in one.stamp:
            yield f"- {name}: {one.stamp[name]}"
    contents = json.loads(one.stamp.get("contents", "{}"))
    for name, digest in contents.items():
        yield f"- {name}: `{digest}`"


def _vectors(one: Chosen, run: Run) -> Iterator[str]:
    """One line for each intervention and way of fitting: layers and tasks of a kind stand together."""
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for key, place in one.places.items():
        label, at, task = parts_of(key)
        fitted = {name: value for name, value in _fitted(place).items() if name not in ("plus", "minus", "prompts")}
        if "features" in fitted:  # of a dictionary; the run's table tells more of them
            fitted["features"] = ", ".join(str(each["feature"]) for each in fitted["features"])
        told = ", ".join(f"{name} {value}" for name, value in fitted.items())
        drawn = _fitted(place).get("prompts")
        drawn = f", up to {max(drawn.values())} prompts a task" if drawn else ""
        line = f"`{label}` at {place['site']}, position {place['position']}: {told}{drawn}"
        tasks, layers = groups.setdefault(line, ([], []))
        tasks.append(task)
        layers.append(".".join(map(str, at)) if isinstance(at, tuple) else str(at))
    for line, (tasks, layers) in groups.items():
        yield f"- {line}; tasks {listed(dict.fromkeys(tasks))}; layers {', '.join(dict.fromkeys(layers))}"
    described = describe_interventions(run.spec)
    names = dict.fromkeys(intervention_of(parts_of(key)[0]) for key in one.operands)
    yield ""
    for name in names:
        yield f"In the run, `{name}` {described[name]}"


def _fitted(place: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a vector was fitted; stamps of before told nothing of it."""
    return place.get("fitted", {})


def _effects(run: Run, chosen: Sequence[Chosen], tasks: Sequence[str]) -> Iterator[str]:
    """Of each exported intervention at the layers that are exported: its effect, and that of random directions."""
    table = run.effects.filter(pl.col("task").is_in(list(tasks))) if tasks else run.curves
    parts = [parts_of(key) for one in chosen for key in one.operands]
    names = dict.fromkeys(intervention_of(label) for label, _, _ in parts)
    layers = {at if isinstance(at, int) else at[0] for _, at, _ in parts}
    table = table.filter(
        pl.col("intervention").is_in(list(names)), pl.col("metric") == run.metric, pl.col("layer").is_in(layers)
    )
    also = [*(["task"] if tasks else []), *run.swept]
    level = f"{100 * run.summary['level']:g}"
    pooled = "" if tasks else ", pooled over tasks"
    yield f"Effect on {run.metric}, patched less clean, with {level} % bootstrap intervals over queries{pooled}."
    yield "The whole tables and the controls are in the run's report."
    yield ""
    yield f"| intervention | {''.join(f'{name} | ' for name in also)}layer | clean | effect | random directions | n |"
    yield f"|---|{'---|' * len(also)}---|---|---|---|---|"
    for row in table.filter(pl.col("control") == "").iter_rows(named=True):
        same = [pl.col(name) == row[name] for name in ("intervention", "layers", "head", *also)]
        random = table.filter(pl.col("control").str.starts_with("random"), *same).rows(named=True)
        cells = [row["intervention"], *(str(row[name]) for name in also), place_label(row["layers"], row["head"])]
        cells += [plain(row["clean"]), with_interval(row), with_interval(random[0]) if random else "-", str(row["n"])]
        yield f"| {' | '.join(cells)} |"


def _usage(one: Chosen, run: Run, files: Sequence[Path]) -> Iterator[str]:
    """The first vector's intervention as a spec would have it."""
    key, place = next(iter(one.places.items()))
    label, at, task = parts_of(key)
    layer, head = at if isinstance(at, tuple) else (at, None)
    ops = run.curves.filter(pl.col("intervention") == intervention_of(label))["op"]
    op = ops[0] if len(ops) and "+" not in ops[0] else "add" if isinstance(one.operands[key], Tensor) else "ablate"
    told = f"file: {files[0].name}"
    if files[0].suffix != ".gguf":
        own = "{task}" if _fitted(place).get("plus") == [task] else task
        told += f', key: "{label}/{own}/{{layer}}{"" if head is None else ".{head}"}"'
    where = {"site": place["site"] if "heads" not in place else "resid_post", "position": place["position"]}
    where |= {} if head is None else {"heads": [head]}
    source = run.spec["interventions"][intervention_of(label)].get("source")
    where |= {"source": source} if isinstance(source, str) else {}
    settings = ", ".join(f"{name}: {value}" for name, value in where.items())
    yield "interventions:"
    yield f"  {intervention_of(label)}: {{op: {op}, vector: {{{told}}}, layers: {layer}, {settings}}}"
