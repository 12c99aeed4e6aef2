"""What is kept of a decoding while a run is unfinished, and the tables made of it."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import polars as pl

from patchboard.execution.model_run import ModelRun
from patchboard.measure.decodability import decodability_table
from patchboard.measure.outcomes import plain
from patchboard.measure.statistics import Bootstrap
from patchboard.plan.model import Decoding
from patchboard.store.folder import RunFolder, atomically


def votes_file(run: ModelRun, decoding: Decoding) -> str:
    return f"parts/{run.prefix}{decoding.id}.npz"


def write_votes(folder: RunFolder, name: str, votes: np.ndarray, accuracy: np.ndarray, labels: Sequence[str]) -> None:
    """votes [layer, shots, point] label codes; accuracy [point, shots], NaN for Null; labels [point]."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, votes=votes, accuracy=accuracy, labels=np.array(labels))
    atomically(folder.path / name, lambda path: path.write_bytes(buffer.getvalue()))


def decodability_tables(run: ModelRun, bootstrap: Bootstrap) -> list[pl.DataFrame]:
    """The table of each of the plan's decodings, once for each point that shares it, from the votes in the folder."""
    tables = []
    for decoding in run.plan.decodings:
        section = decoding.section
        with np.load(run.folder.path / votes_file(run, decoding)) as stored:
            table = decodability_table(
                stored["votes"], stored["labels"].tolist(), stored["accuracy"], section.shots, section.k, bootstrap
            )
        tables += [
            table.with_columns(pl.lit(plain(value)).alias(path) for path, value in swept) for swept in decoding.swept
        ]
    return tables
