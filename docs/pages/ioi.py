"""Indirect object identification: where the names are, which heads move the answer by what, and a published table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages.frame import Run
from pages.readings import json_of
from patchboard.experiments.ioi.findings import findings, overview

RUNS = {
    "smollm2": Run("ioi", needs="smollm2-135m"),
    "smollm2_abc": Run("ioi_published", "--model", "smollm2-135m", "--prompts.queries=24", needs="smollm2-135m"),
}

FIGURES = {
    f"ioi_{name.replace('-', '_')}.png": ("smollm2", f"experiment/figures/{name}.png")
    for name in ("task", "places", "heads", "paths-logits", "paths-movers", "knock-out", "screen")
}

LARGEST = 8
"""Heads that are kept of each list."""


def values(name: str, folder: Path) -> dict[str, Any]:
    summary = json_of(folder / "experiment" / "summary.json")
    if name == "smollm2_abc":
        return {**summary, "heads": summary["heads"][:LARGEST]}
    kept = "model layers heads_of_a_layer queries level movers others task attending screen".split()
    return {
        **{key: summary[key] for key in kept},
        "departures": summary.get("departures", []),
        "places": {
            source: {position: _layers(summary["places"], source, position) for position in positions}
            for source, positions in _positions(summary["places"]).items()
        },
        "output": _largest(summary["heads"], "output", "flip"),
        "carrying": _largest(summary["heads"], "output", "reordered"),
        "direct": _largest(summary["heads"], "logits", "flip"),
        "received": _largest(summary["heads"], "movers", "turned"),
        "said": findings(summary),
        "tables": [{"title": table.title, "heads": table.heads, "rows": table.rows} for table in overview(summary)],
    }


def _positions(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Source -> its positions."""
    sources = dict.fromkeys(row["source"] for row in rows)
    return {each: list(dict.fromkeys(row["position"] for row in rows if row["source"] == each)) for each in sources}


def _layers(rows: list[dict[str, Any]], source: str, position: str) -> list[float]:
    """The effect at each layer, all queries."""
    mine = [row for row in rows if (row["source"], row["position"]) == (source, position)]
    return [row["effect"] for row in sorted(mine, key=lambda row: row["layer"])]


def _largest(rows: list[dict[str, Any]], what: str, source: str) -> list[dict[str, Any]]:
    """Heads by the size of their effect on even queries, measured on odd ones."""
    mine = [row for row in rows if (row["what"], row["source"]) == (what, source) and row["chosen"] is not None]
    ranked = sorted(mine, key=lambda row: -abs(row["chosen"]))[:LARGEST]
    ends = {"effect": "odd", "ci_low": "odd_low", "ci_high": "odd_high"}
    return [
        {"head": f"{row['layer']}.{row['head']}", **{name: row[key] for name, key in ends.items()}} for row in ranked
    ]
