"""What a report is made of: the files of a finished run folder, read once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.errors import RunFolderError, SpecError
from patchboard.report.screened import with_cells_not_run
from patchboard.spec.yaml_text import read_yaml
from patchboard.store.schema import CURVES, DECODABILITY, FLOORS, OPTIONAL_TABLES, PROBED, TWIN


@dataclass(frozen=True)
class Run:
    """A finished run. ``decodability`` has no rows where the spec asked for none."""

    folder: Path
    spec_text: str
    spec: Mapping[str, Any]
    manifest: Mapping[str, Any]
    summary: Mapping[str, Any]
    curves: pl.DataFrame
    effects: pl.DataFrame
    decodability: pl.DataFrame
    screen: pl.DataFrame
    """store.schema.SCREEN; no rows where the spec asked for no screen."""
    probes: pl.DataFrame
    """store.schema.PROBED; no rows where the spec asked for no probes."""
    texts: pl.DataFrame
    """store.schema.TEXTS; no rows where the spec asked for none."""
    guardedness: pl.DataFrame
    """store.schema.GUARDED; no rows where the spec did not ask for it."""
    features: pl.DataFrame
    """store.schema.FEATURES; no rows where no edit is of a dictionary's features."""
    learned: pl.DataFrame
    """store.schema.LEARNED; no rows where no vector is learned."""
    top_tokens: pl.DataFrame
    """store.schema.TOP_TOKENS; no rows where the spec asked for none."""

    @cached_property
    def places(self) -> pl.DataFrame:
        """``curves``, with the cells that a screen left out as rows of no query."""
        return with_cells_not_run(self.curves, self.screen)

    @cached_property
    def places_by_task(self) -> pl.DataFrame:
        """As ``places``, of ``effects``."""
        return with_cells_not_run(self.effects, self.screen)

    @property
    def metric(self) -> str:
        """The metric by which the best layers were chosen."""
        return self.summary["metric"]

    @property
    def swept(self) -> list[str]:
        """Swept fields, each a column of the tables."""
        return [column for column in self.curves.columns if column not in CURVES]

    @property
    def own(self) -> pl.DataFrame:
        """Pooled effects of the interventions themselves on the first metric."""
        return self.curves.filter(pl.col("control") == "", pl.col("metric") == self.metric)

    def axis(self, intervention: str) -> str | None:
        """``onwards`` or ``upto`` where a cell edits all later or all earlier blocks than its own as well."""
        return self.summary["interventions"].get(intervention, {}).get("axis")


def read_table(folder: Path, name: str) -> pl.DataFrame:
    """A table of a run folder. Raises RunFolderError where it is missing or cannot be read."""
    return _read(folder, name, _table)


def read_optional(folder: Path, name: str, summary: Mapping[str, Any]) -> pl.DataFrame:
    """One of ``OPTIONAL_TABLES``, without rows where the run has none. Raises RunFolderError as ``read_table``."""
    table = OPTIONAL_TABLES[name]
    there = name in summary if table.in_summary else (folder / table.file).exists()
    return read_table(folder, table.file) if there else pl.DataFrame(schema=table.columns)


def scan_table(folder: Path, name: str) -> pl.LazyFrame:
    """As ``read_table``, of which only what is asked for is read."""
    return _read(folder, name, lambda path: pl.scan_parquet(path, glob=False))


def read_json(folder: Path, name: str) -> Any:
    """As ``read_table``, of a JSON file."""
    return _read(folder, name, _json)


def read_run(folder: Path) -> Run:
    """Read a run folder. Raises RunFolderError where it is unfinished or a file cannot be read."""
    spec_text = _read(folder, "spec.yaml", lambda path: path.read_text(encoding="utf-8"))
    summary = _read(folder, "summary.json", _json)
    return Run(
        folder=folder,
        spec_text=spec_text,
        spec=_read(folder, "spec.yaml", lambda path: read_yaml(spec_text, str(path))),
        manifest=_read(folder, "manifest.json", _json),
        summary=summary,
        curves=_read(folder, "curves.parquet", _table),
        effects=_read(folder, "effects.parquet", _table),
        decodability=_read(folder, "decodability.parquet", _table),
        **{name: read_optional(folder, name, summary) for name in OPTIONAL_TABLES},
    )


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _table(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path, glob=False)  # a folder may be called "seed[1]"


def _read(folder: Path, name: str, read: Callable[[Path], Any]) -> Any:
    path = folder / name
    if not path.exists():
        raise RunFolderError(str(path), "is missing: no finished run is here", "run the spec's command again")
    try:
        return read(path)
    except (OSError, ValueError, SpecError, pl.exceptions.PolarsError) as error:
        what = f"cannot be read ({type(error).__name__})"
        raise RunFolderError(str(path), what, "run again with --fresh") from error


def settings_of(table: pl.DataFrame, swept: list[str]) -> list[dict[str, Any]]:
    """The different settings of the swept fields in a table, in order; missing ones left out."""
    if not swept:
        return [{}]
    rows = table.select(swept).unique(maintain_order=True).to_dicts()
    return [{field: value for field, value in row.items() if value is not None} for row in rows]


def at_setting(table: pl.DataFrame, setting: Mapping[str, Any], swept: list[str]) -> pl.DataFrame:
    """The table's rows at one setting, as ``settings_of`` lists it."""
    return table.filter(*(pl.col(field).eq_missing(setting.get(field)) for field in swept))


def setting_label(setting: Mapping[str, Any]) -> str:
    """``shots = 4, strength = 2``: fields by their last name where that is unambiguous."""
    short = [field.rsplit(".", 1)[-1] for field in setting]
    return ", ".join(
        f"{name if short.count(name) == 1 else field} = {value}"
        for name, (field, value) in zip(short, setting.items(), strict=True)
    )


def decodabilities(run: Run) -> list[tuple[str, pl.DataFrame]]:
    """(label of the setting, table) for each *different* table of CD: settings that only change an
    intervention share theirs."""
    return _different(run.decodability, [*DECODABILITY, *FLOORS])


def probed(run: Run) -> list[tuple[str, pl.DataFrame]]:
    """As ``decodabilities``, of probes; tables keep their swept fields, by which CD is found beside them."""
    return _different(run.probes, [*PROBED, *TWIN], keep_swept=True)


def _different(table: pl.DataFrame, fixed: list[str], keep_swept: bool = False) -> list[tuple[str, pl.DataFrame]]:
    """fixed: columns that are no swept fields."""
    if table.is_empty():
        return []
    own = [column for column in table.columns if column in fixed]
    swept = [column for column in table.columns if column not in fixed]
    tables: list[tuple[str, pl.DataFrame]] = []
    for setting in settings_of(table, swept):
        rows = at_setting(table, setting, swept)
        if not any(rows.select(own).equals(other.select(own)) for _, other in tables):
            tables.append((setting_label(setting), rows if keep_swept else rows.select(own)))
    return tables if len(tables) > 1 else [("", rows) for _, rows in tables]
