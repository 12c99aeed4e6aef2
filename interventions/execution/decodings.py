"""What is kept of a decoding while a run is unfinished, and the table made of it."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import polars as pl

from patchboard.measure.decodability import decodability_table
from patchboard.measure.outcomes import plain
from patchboard.measure.statistics import Bootstrap
from patchboard.plan.model import Decoding
from patchboard.store.folder import RunFolder, atomically


def part_of(prefix: str, decoding: Decoding) -> str:
    return f"parts/{prefix}{decoding.id}.npz"


def keep_decoded(folder: RunFolder, name: str, votes: np.ndarray, accuracy: np.ndarray, labels: Sequence[str]) -> None:
    """votes [layer, shots, point] label codes; accuracy [point, shots], NaN for Null; labels [point]."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, votes=votes, accuracy=accuracy, labels=np.array(labels))
    atomically(folder.path / name, lambda path: path.write_bytes(buffer.getvalue()))


def decoded_tables(folder: RunFolder, name: str, decoding: Decoding, bootstrap: Bootstrap) -> list[pl.DataFrame]:
    """The decoding's table, once for each point that shares it."""
    section = decoding.section
    with np.load(folder.path / name) as stored:
        table = decodability_table(
            stored["votes"], stored["labels"].tolist(), stored["accuracy"], section.shots, section.k, bootstrap
        )
    return [table.with_columns(pl.lit(plain(value)).alias(path) for path, value in swept) for swept in decoding.swept]
