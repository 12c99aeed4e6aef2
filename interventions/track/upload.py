"""A finished run folder into an open W&B run: series over layers, tables, figures, the page, single numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from patchboard.report.run_files import Run, read_run
from patchboard.track.config import config_of
from patchboard.track.series import LAYER, PATTERNS, rows
from patchboard.track.tables import tables
from patchboard.track.values import summary_values

if TYPE_CHECKING:
    import wandb


@dataclass(frozen=True)
class Content:
    """All that is sent, made before anything is: an error of ours must not look like one of W&B's."""

    config: dict[str, Any]
    rows: list[dict[str, float]]
    tables: dict[str, pl.DataFrame]
    figures: list[Path]
    report: Path
    values: dict[str, Any]


def content_of(folder: Path) -> Content:
    """What the folder of a finished run holds for W&B. Raises RunFolderError where it is not one."""
    run: Run = read_run(folder)
    return Content(
        config_of(run.spec, run.manifest["digest"]),
        rows(run),
        dict(tables(run)),
        sorted((folder / "figures").glob("[!.]*.png")),
        folder / "report.html",
        summary_values(run),
    )


def log_content(opened: wandb.Run, content: Content) -> None:
    """Log all of it. A row's step is its number, so rows that an earlier try has sent are not sent again."""
    import wandb

    opened.define_metric(LAYER, hidden=True, summary="none")
    for pattern in PATTERNS:
        # the last layer's value says nothing of a run: the summary has the best layer's instead
        opened.define_metric(pattern, step_metric=LAYER, summary="none")
    for step, row in enumerate(content.rows):
        opened.log(row, step=step)
    opened.summary.update(content.values)  # before what is large, which may not get through
    media: dict[str, Any] = {
        name: wandb.Table(columns=[*table.columns], data=[list(row) for row in table.iter_rows()])
        for name, table in content.tables.items()
    }
    media |= {f"figures/{path.stem}": wandb.Image(str(path)) for path in content.figures}
    if content.report.exists():
        media["report"] = wandb.Html(str(content.report), inject=False)
    opened.log(media, step=len(content.rows))


def configure(opened: wandb.Run, config: dict[str, Any]) -> None:
    """Add to the config what is not in it: a sweep's parameters are there already, and locked."""
    opened.config.update({key: value for key, value in config.items() if key not in opened.config})
