"""What is kept of a decoding while a run is unfinished, and the tables made of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from patchboard.execution.model_run import ModelRun
from patchboard.measure.decodability import decodability_table
from patchboard.measure.floors import FloorVotes
from patchboard.measure.outcomes import plain
from patchboard.measure.statistics import Bootstrap
from patchboard.plan.model import Decoding
from patchboard.store.folder import RunFolder


def votes_file(run: ModelRun, decoding: Decoding) -> str:
    return f"parts/{run.prefix}{decoding.id}.npz"


def twin_votes_file(run: ModelRun, decoding: Decoding) -> str:
    return f"parts/{run.prefix}{decoding.id}-twin.npz"


def write_votes(
    folder: RunFolder, name: str, votes: np.ndarray, accuracy: np.ndarray, labels: Sequence[str],
    shuffled: np.ndarray | None = None,
) -> None:  # fmt: skip
    """votes [layer, shots, point] label codes; accuracy [point, shots], NaN for Null; labels [point].

    shuffled: hits under permuted labels, as ``measure.floors.FloorVotes`` has them.
    """
    more = {} if shuffled is None else {"shuffled": shuffled}
    folder.write_arrays(name, {"votes": votes, "accuracy": accuracy, "labels": np.array(labels), **more})


def decodability_tables(run: ModelRun, bootstrap: Bootstrap) -> list[pl.DataFrame]:
    """The table of each of the plan's decodings, once for each point that shares it, from the votes in the folder."""
    tables = []
    for decoding in run.plan.decodings:
        section = decoding.section
        with np.load(run.folder.path / votes_file(run, decoding)) as stored:
            labels = stored["labels"].tolist()
            floors = FloorVotes(
                _twin_votes(run, decoding, labels) if section.twin else None,
                stored["shuffled"] if section.shuffled else None,
            )
            table = decodability_table(
                stored["votes"], labels, stored["accuracy"], section.shots, section.k, bootstrap, floors
            )
        tables += [
            table.with_columns(pl.lit(plain(value)).alias(path) for path, value in swept) for swept in decoding.swept
        ]
    return tables


def _twin_votes(run: ModelRun, decoding: Decoding, labels: Sequence[str]) -> np.ndarray:
    with np.load(run.folder.path / twin_votes_file(run, decoding)) as stored:
        assert stored["labels"].tolist() == list(labels), "the twin's points are the model's"
        return stored["votes"]
