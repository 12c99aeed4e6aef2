"""Single numbers of a run: what W&B's table of runs shows, and what a sweep can optimise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from patchboard.report.run_files import Run

_BOUNDS = ("effect", "ci_low", "ci_high")


def summary_values(run: Run) -> dict[str, Any]:
    """Name -> value, without those that could not be measured. docs/wandb.md has each name with its unit.

    All of an intervention are at its best layer, which is chosen by the spec's first metric on one half of the
    queries; effects and intervals are of the other half.
    """
    values: dict[str, Any] = {}
    for name, entry in run.summary["interventions"].items():
        values |= _of_intervention(name, entry)
    for entry in run.summary.get("faithfulness", ())[::-1]:  # of several settings the first
        if not entry["control"]:
            values |= {f"faithfulness/{area}/{entry['intervention']}": entry[area]["value"] for area in ("cpr", "cmd")}
    cd, fit = run.summary["decodability"] or {}, run.summary["accuracy_against_cd"] or {}
    values |= {"cd_max": cd.get("cd"), "cd_max_layer": cd.get("layer"), "cd_chance": cd.get("chance")}
    twin, shuffled = cd.get("above_twin") or {}, cd.get("shuffled") or {}
    values |= {"cd_above_twin_max": twin.get("above_twin"), "cd_above_twin_max_layer": twin.get("layer")}
    values |= {"cd_shuffled": shuffled.get("shuffled")}
    for name, row in run.summary.get("probes", {}).items():
        values |= {f"probe/{column}/{name}": row[column] for column in ("accuracy", "layer", "selectivity")}
        values[f"probe/agreement/{name}"] = (row["agreement"] or {}).get("spearman")
    for entry in run.summary.get("guardedness", ())[::-1]:  # of several settings the first
        name = f"{entry['intervention']}/{entry['probe']}"
        values[f"guardedness/layer/{name}"] = entry["layer"]
        values[f"guardedness/before/{name}"] = entry["held_out"]["unablated"]
        values[f"guardedness/after/{name}"] = entry["held_out"]["accuracy"]
        values |= {f"guardedness/later/{name}": (entry["later"] or {}).get("accuracy")}
        values |= {f"guardedness/in_sample/{name}": (entry["in_sample"] or {}).get("accuracy")}
    values |= {"accuracy_against_cd/r2": fit.get("r2"), "accuracy_against_cd/slope": fit.get("slope")}
    values |= {f"noise_floor/{metric}": value for metric, value in (run.manifest.get("noise_floor") or {}).items()}
    values |= {"flip_rate": run.manifest.get("flip_rate"), "seconds": (run.manifest.get("seconds") or {}).get("total")}
    return {key: value for key, value in values.items() if value is not None}


def _of_intervention(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {f"best/layer/{name}": entry["best_layer"]}
    if entry["best_layer"] is None:
        return values
    values[f"best/head/{name}"] = entry["head"]
    for metric, measured in entry["metrics"].items():
        values |= {f"best/{bound}/{name}/{metric}": measured[bound] for bound in _BOUNDS}
    for control, measured in entry["controls"].items():
        values[f"best/control/{name}/{control}"] = measured["effect"]
    relation = entry["correlation"] or {}
    values |= {
        f"best/cd/{name}": entry["cd_at_best_layer"],
        f"best/cd_above_twin/{name}": (entry.get("above_twin") or {}).get("above_twin"),
        f"correlation/{name}": relation.get("spearman"),
        f"correlation_low/{name}": relation.get("ci_low"),
        f"correlation_high/{name}": relation.get("ci_high"),
    }
    return values
