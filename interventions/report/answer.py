"""The first screen of a page: what was asked, and what came out, in a few sentences; the findings say it at length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from patchboard.measure.decodability import ALL
from patchboard.report.circuits import of_circuits
from patchboard.report.described_values import text_of
from patchboard.report.findings import controls_alike
from patchboard.report.numbers import between, covers_zero, fraction, listed, place_words, plain, signed
from patchboard.report.run_files import Run, setting_label

_MOST_SETTINGS = 3
"""Settings of an intervention that are told; of more, that of the largest effect."""


def question(run: Run, tasks: Sequence[str]) -> str:
    """One sentence made from the spec: the model, the tasks, what is edited, by which metric, on how many queries."""
    spec = run.spec
    models = listed(dict.fromkeys(model["name"] for model in run.manifest["models"]))
    names = [_with_op(name, spec["interventions"].get(name, {})) for name in run.summary["interventions"]]
    family = text_of(spec, "tasks", "family")
    shots = text_of(spec, "prompts", "shots").removesuffix(" (swept)")
    if names:
        beside = ["against controls"] if spec["controls"] else []
        beside += ["beside Concept Decodability (CD)"] if not run.decodability.is_empty() else []
        held = f", {listed(beside)}" if beside else ""
        queries = text_of(spec, "prompts", "queries").removesuffix(" (swept)")
        return (
            f"What {'does' if len(names) == 1 else 'do'} {listed(names)} do to {run.metric} in {models}? Measured on"
            f" {queries} queries of each of {listed(tasks)} (tasks of {family}), {shots} demonstrations before"
            f" each{held}."
        )
    labels = run.decodability.filter(pl.col("task") != ALL)["task"].unique(maintain_order=True).to_list()
    return (
        f"At which layers of {models} can the task be read from the state before the answer (Concept Decodability, CD)?"
        f" Measured on {listed(labels)} (tasks of {family}), {shots} demonstrations before each query."
    )


def _with_op(name: str, section: Mapping[str, Any]) -> str:
    op = section.get("op")
    return f"{name} ({op})" if isinstance(op, str) and op != name else name


def answers(run: Run) -> list[tuple[str, str]]:
    """(name, sentence) for each intervention, then for what can be decoded where."""
    summary = run.summary
    kept = {entry["intervention"] for entry in summary.get("faithfulness", ())}
    told = [
        (name, _of_intervention(entry["points"], summary["metric"]))
        for name, entry in summary["interventions"].items()
        if name not in kept
    ]
    told += [("", sentence) for sentence in of_circuits(summary)]
    return [*told, *(("CD", sentence) for sentence in _decoded(run.decodability))]


def _of_intervention(points: Sequence[Mapping[str, Any]], metric: str) -> str:
    known = [point for point in points if point["best_layer"] is not None and point["effect"] is not None]
    if not known:
        return "no query could be measured."
    if len(known) <= _MOST_SETTINGS:
        return "; ".join(_clause(point, metric) for point in known) + "."
    largest = max(known, key=lambda point: abs(point["effect"]))
    return f"{_clause(largest, metric)}; of {len(known)} settings its effect is largest there."


def _clause(point: Mapping[str, Any], metric: str) -> str:
    at = f"at {setting_label(point['at'])} " if point["at"] else ""
    effect, low, high = point["effect"], point["ci_low"], point["ci_high"]
    if effect == low == high == 0:
        return f"{at}it changes no {metric}"
    where = place_words(point["layers"], point.get("head"), point.get("axis"))
    decoded = point.get("cd_at_best_layer")
    cd = f", where CD is {fraction(decoded)}" if decoded is not None else ""
    if covers_zero(point):
        interval = f"{signed(effect)} [{signed(low)}, {signed(high)}]"
        return f"{at}no effect is told from zero, not the largest one, {interval} on {metric} ({where}{cd})"
    verb, size = ("raises", (effect, low, high)) if effect > 0 else ("lowers", (-effect, -high, -low))
    by = f"{plain(size[0])} [{plain(size[1])}, {plain(size[2])}]"
    return f"{at}it {verb} {metric} by {by} at {where}{cd}{_against(point)}"


def _against(point: Mapping[str, Any]) -> str:
    """What the controls do at the same place, but for ``self``, which changes nothing."""
    entries = {name: entry for name, entry in point["controls"].items() if entry["effect"] is not None}
    alike = [name for name in controls_alike(point) if name != "self"]
    if alike:
        return f", which {listed(alike)} {'does' if len(alike) == 1 else 'do'} as well"
    each = [f"{name} {signed(entry['effect'])}" for name, entry in entries.items() if name != "self"]
    return f" ({', '.join(each)})" if each else ""


def _decoded(table: pl.DataFrame) -> Iterator[str]:
    """Where the task can be read best, at the largest number of demonstrations."""
    overall = table.filter(pl.col("task") == ALL, pl.col("shots") == pl.col("shots").max()).drop_nulls("cd")
    if len(overall):
        best = overall.sort("cd", descending=True, maintain_order=True).row(0, named=True)
        yield (
            f"the task is most readable behind layer {best['layer']}, {between(best, 'cd')} after {best['shots']}"
            f" demonstrations (chance {fraction(best['chance'])})."
        )
