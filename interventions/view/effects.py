"""A run's effects for its row: from its summary, those first that say most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from patchboard.report.numbers import best_place, cd_there, fraction, with_interval
from patchboard.report.run_files import setting_label
from patchboard.report.tables import controls_there


def effects_of(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each intervention's effect at each setting, at its best layer or head: the largest first, but those that a random
    control has as well (``apart`` is false) behind all others."""
    points = [(name, point) for name, entry in summary["interventions"].items() for point in entry["points"]]
    effects = [
        {
            "intervention": name,
            "setting": setting_label(point["at"]),
            "place": best_place(point),
            "effect": point["effect"],
            "text": with_interval(point),
            "apart": _apart(point),
            "n": point["n"],
            "controls": controls_there(point),
            "cd": cd_there(point),
            "cd_value": point["cd_at_best_layer"],
        }
        for name, point in points
        if point["effect"] is not None
    ]
    return sorted(effects, key=lambda each: (not each["apart"], -abs(each["effect"])))


def _apart(point: Mapping[str, Any]) -> bool:
    """Whether the effect's interval is apart from that of each random control there."""
    controls = (entry for name, entry in (point["controls"] or {}).items() if name.startswith("random"))
    return all(
        entry["ci_high"] < point["ci_low"] or point["ci_high"] < entry["ci_low"]
        for entry in controls
        if entry["effect"] is not None
    )


def largest_cd(summary: Mapping[str, Any]) -> dict[str, Any]:
    """``cd`` and ``cd_value`` of a run without effects."""
    cd = summary.get("decodability")
    if not cd:
        return {"cd": "-", "cd_value": None}
    return {"cd": f"{fraction(cd['cd'])} (layer {cd['layer']})", "cd_value": cd["cd"]}
