"""What a screen was worth, as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from patchboard.report.numbers import fraction, listed, plain
from patchboard.report.run_files import setting_label


def sentences_of_screen(screen: Mapping[str, Any]) -> list[str]:
    """One for each setting swept for the whole run. screen: of summary.json, empty where there is none."""
    return [" ".join(_of_point(screen, point)) for point in screen.get("points", ())]


def _of_point(screen: Mapping[str, Any], point: Mapping[str, Any]) -> Iterator[str]:
    where = f" ({setting_label(point['at'])})" if point["at"] else ""
    method = screen["method"].replace("_", " ")
    run = point["kept"] + point["sampled"]
    yield (
        f"Screen by {method}{where}: of {point['cells']:,} cells {run:,} were run, {point['kept']:,} of the largest"
        f" estimates and {point['sampled']:,} random others. Estimate and exact effect on {screen['metric']} have rank"
        f" correlation {fraction(point['spearman_of_sample'])} over the random ones,"
        f" {fraction(point['spearman_of_all'])} over all that ran."
    )
    none = [name for name, each in point["interventions"].items() if not each["kept"]]
    if none:
        yield f"Of {listed(none)} no cell was kept."
    missed = point["missed"]
    if missed:
        yield (
            f"What it missed: {missed['above']} of the {missed['sampled']} random ones have a larger effect than the"
            f" smallest kept one ({plain(missed['smallest_kept'])}), so about {missed['expected']:.0f}"
            f" [{missed['low']:.0f}, {missed['high']:.0f}] of the {missed['others']:,} cells that were not kept. The"
            f" largest effect of the random ones is {plain(missed['largest'])}; {missed['kept_above']} of the"
            f" {point['kept']:,} kept are larger."
        )
