"""Numbers of a run as sentences and cells of tables, for the page and the terminal alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interventions.report.figures import setting_label

Row = dict[str, str]


def number(value: float | None, signed: bool = False) -> str:
    """Two decimals, or significant digits where those would be zeros; a dash for nothing."""
    if value is None:
        return "–"
    small = value != 0 and abs(value) < 0.005
    return f"{value:{'+' if signed else ''}{'.1e' if small else '.2f'}}"


def with_interval(measure: Mapping[str, Any] | None) -> str:
    """``+0.57 [+0.52, +0.61]``."""
    if not measure or measure.get("effect") is None:
        return "–"
    low, high = number(measure["ci_low"], True), number(measure["ci_high"], True)
    return f"{number(measure['effect'], True)} [{low}, {high}]"


def headline_rows(summary: Mapping[str, Any]) -> list[Row]:
    """One row an intervention and swept setting: best layer, effect there, controls there, CD there."""
    rows = []
    for name, entry in summary["interventions"].items():
        for point in entry["points"]:
            controls = {control: m for control, m in point["controls"].items() if control != "self"}
            rows.append(
                {
                    "intervention": name,
                    "at": setting_label(point["at"]) or f"{point['shots']} shots",
                    "best layer": str(point["best_layer"]),
                    "clean": number(point["clean"]),
                    "edited": number(point["patched"]),
                    "effect": with_interval(point),
                    "controls": "; ".join(
                        f"{c.replace('_', ' ')} {number(m['effect'], True)}" for c, m in controls.items()
                    )
                    or "–",
                    "CD there": number(point["cd_at_best_layer"]),
                    "CD ~ effect": _correlation(point["correlation"]),
                }
            )
    return rows


def _correlation(value: Mapping[str, Any] | None) -> str:
    if not value or value["spearman"] is None:
        return "–"
    return f"{number(value['spearman'], True)} [{number(value['ci_low'], True)}, {number(value['ci_high'], True)}]"


def findings(summary: Mapping[str, Any], level: float) -> list[str]:
    """What the numbers say, one sentence each; nothing that the intervals don't carry."""
    out = []
    metric = summary["metric"]
    for name, entry in summary["interventions"].items():
        for point in entry["points"]:
            if point["effect"] is None:
                continue
            label = setting_label(point["at"])
            where = f"{name}" + (f" at {label}" if label else "")
            zero = point["ci_low"] <= 0 <= point["ci_high"]
            if zero:
                out.append(
                    f"{where}: even at its best layer ({point['best_layer']}) the effect on {metric} cannot be told from zero "
                    f"at the {level:.0%} level (clean {metric} {number(point['clean'])})."
                )
            else:
                out.append(
                    f"{where}: the edit at layer {point['best_layer']} moves {metric} from {number(point['clean'])} to "
                    f"{number(point['patched'])}, {with_interval(point)}{_against_controls(point)}."
                )
            idle = point["decodable_but_not_causal"]
            if idle:
                layers = ", ".join(map(str, idle))
                out.append(
                    f"{where}: decodable is not causal: at layer{'s' * (len(idle) > 1)} {layers} CD is 0.8 or more, yet the "
                    f"effect's interval covers zero (clean {metric} {number(point['clean'])})."
                )
    return out


def _against_controls(point: Mapping[str, Any]) -> str:
    told = []
    for control, measure in point["controls"].items():
        if control == "self" or measure["effect"] is None:
            continue
        apart = measure["ci_high"] < point["ci_low"] or measure["ci_low"] > point["ci_high"]
        told.append(f"{control.replace('_', ' ')} {with_interval(measure)}{'' if apart else ', not told apart'}")
    return f" ({'; '.join(told)})" if told else ""


def caveats(manifest: Mapping[str, Any]) -> list[str]:
    """What a reader should know of how the numbers came about."""
    out = []
    floor = manifest.get("noise_floor", {})
    if floor:
        told = ", ".join(f"{name} {value:.1e}" for name, value in floor.items())
        out.append(
            f"Noise floor (a state patched with itself, largest change): {told}; {manifest.get('flip_rate', 0):.2%} of exact matches flipped."
        )
    out += [f"{model}: {how}." for model, how in manifest.get("engine", {}).items()]
    out += [f"{note}." for note in manifest.get("fallbacks", [])]
    for task, reasons in manifest.get("excluded", {}).items():
        out += [f"{task}: {count} prompts left out ({reason})." for reason, count in reasons.items()]
    return out
