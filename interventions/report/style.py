"""One look for all figures: what each control and intervention is drawn like, wherever it appears."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Okabe & Ito's palette: told apart by readers with any colour vision
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
GREY = "#7A7A7A"

CONTROL_STYLES: dict[str, dict[str, Any]] = {
    "": {"color": BLUE, "linestyle": "-", "marker": "o", "linewidth": 2.0, "zorder": 5},
    "self": {"color": GREEN, "linestyle": (0, (1, 1)), "marker": "", "linewidth": 1.6, "zorder": 4},
    "random": {"color": ORANGE, "linestyle": "-", "marker": "s", "linewidth": 1.2, "zorder": 3},
    "random_subspace": {"color": ORANGE, "linestyle": "-", "marker": "s", "linewidth": 1.2, "zorder": 3},
    "other_task": {"color": VERMILION, "linestyle": "-", "marker": "^", "linewidth": 1.2, "zorder": 3},
}
CD_STYLE: dict[str, Any] = {
    "color": GREY,
    "linestyle": "--",
    "marker": "D",
    "linewidth": 1.2,
    "markersize": 3,
    "zorder": 2,
}

TASK_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, "#000000", "#999933")
SHOT_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

CONTROL_NAMES = {
    "": "the intervention", "self": "self (own state)", "random": "random, same norm",
    "random_subspace": "random, same rank", "other_task": "another task's vector",
}  # fmt: skip

_RC = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "legend.fontsize": 8.5,
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
    "lines.markersize": 4, "figure.facecolor": "white", "savefig.dpi": 150,
}  # fmt: skip


@contextmanager
def figure(
    path: Path, rows: int, columns: int, width: float, height: float, **options: Any
) -> Iterator[tuple[Any, Any]]:
    """A figure with a grid of axes [rows, columns], saved atomically when the block ends."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from interventions.store.folder import atomically

    with plt.rc_context(_RC):
        shown, axes = plt.subplots(
            rows, columns, figsize=(width, height), squeeze=False, layout="constrained", **options
        )
        try:
            yield shown, axes
            # no date or version inside: the same numbers give the same file
            atomically(path, lambda file: shown.savefig(file, metadata={"Software": None}))
        finally:
            plt.close(shown)


def layer_ticks(layers: int) -> range:
    """Ticks on whole layers, ten of them at most."""
    return range(0, layers, max(1, -(-layers // 10)))
