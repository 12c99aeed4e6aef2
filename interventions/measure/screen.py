"""Estimates of a group's cells, which of these cells are then run, and what the run says of the estimates."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from patchboard.measure.outcomes import outcome_schema, plain
from patchboard.measure.statistics import Bootstrap, Floats, interval
from patchboard.plan.model import Group
from patchboard.spec.screen import ScreenSection
from patchboard.store.schema import OUTCOMES, SCREEN, swept_of

KEPT, SAMPLED, LEFT_OUT = "kept", "sampled", "left out"
"""What becomes of a screened cell."""


def screen_table(
    group: Group, cells: Sequence[int], estimates: Floats, metric: str, section: ScreenSection, bootstrap: Bootstrap
) -> pl.DataFrame:
    """store.schema.SCREEN of one group, its swept fields behind it. cells: as ``plan.screen.screened_cells`` gives
    them. estimates [cell, query], NaN where there is none."""
    # what is said of the best cell is measured on the odd queries, so these have no part in the choice
    choosing = _mean(estimates[:, ::2])
    rank, chosen = choice(choosing, section, group)
    low, high = interval(estimates.T, bootstrap, [group.task] * estimates.shape[1])
    kinds = outcome_schema([group])
    swept = {name: kinds[name] for name in swept_of(kinds)}
    rows: list[dict[str, Any]] = []
    for number in cells:
        cell = group.uses[number].cell
        labels = {path: plain(value) for path, value in cell.swept}
        named = {"task": group.task, **cell.row, "shots": group.shots, "seed": group.seed, "metric": metric}
        rows.append(named | {path: labels.get(path) for path in swept})
    measured = {
        "estimate": _mean(estimates), "ci_low": low, "ci_high": high, "n": (~np.isnan(estimates)).sum(1),
        "choosing": choosing, "rank": rank, "chosen": chosen,
    }  # fmt: skip
    table = pl.DataFrame(rows, infer_schema_length=None, strict=False) if rows else pl.DataFrame(schema=SCREEN | swept)
    if rows:
        table = table.with_columns(pl.Series(name, list(values)) for name, values in measured.items())
    return table.select(pl.col(name).cast(kind) for name, kind in (SCREEN | swept).items())


def _mean(values: Floats) -> Floats:
    """[cell] of [cell, query], NaN left out; NaN where there is no value."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(1) / known.sum(1)


def choice(choosing: Floats, section: ScreenSection, group: Group) -> tuple[np.ndarray, list[str]]:
    """[cell] rank from 1, and KEPT, SAMPLED or LEFT_OUT. The largest are kept, of equals the earlier; of the others a
    random sample is drawn, told by the group and ``prompts.seed``."""
    order = np.argsort(-np.abs(np.nan_to_num(choosing)), kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    others = np.sort(order[section.keep :])
    rng = np.random.default_rng([group.seed, zlib.crc32(group.id.encode())])
    sampled = set(rng.choice(others, min(section.sample, len(others)), replace=False).tolist())
    return rank, [
        KEPT if place <= section.keep else SAMPLED if number in sampled else LEFT_OUT
        for number, place in enumerate(rank.tolist())
    ]


def against_exact(screen: pl.DataFrame, effects: pl.DataFrame) -> pl.DataFrame:
    """The rows of ``screen`` with ``effect``, the exact one of the same queries; null where the cell was not run."""
    keys = [name for name in screen.columns if name not in _ESTIMATED]
    exact = effects.filter(pl.col("control") == "").select(*keys, "effect")
    return screen.join(exact, on=keys, how="left", nulls_equal=True, maintain_order="left")


_ESTIMATED = [name for name in SCREEN if name not in OUTCOMES]


def settings_in(screen: pl.DataFrame) -> list[str]:
    """Columns by whose values screens of a run are told apart, beside the task: what is swept for the whole run."""
    swept = [name for name in screen.columns if name not in SCREEN and not name.startswith("interventions.")]
    return ["shots", "seed", *swept]


def interventions_of(screen: pl.DataFrame) -> Mapping[str, pl.DataFrame]:
    """Intervention -> its rows, in order."""
    names = screen["intervention"].unique(maintain_order=True).to_list()
    return {name: screen.filter(pl.col("intervention") == name) for name in names}
