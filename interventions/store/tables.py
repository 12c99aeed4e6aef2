"""A parquet table written piece by piece, for tables that are too long to be held."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from patchboard.store.version import STAMP, VERSION

_BYTES_AT_ONCE = 1 << 22
"""Size of a row group in memory; writing and reading one takes several times that. Small pieces wait for others:
each row group takes some kB in the file."""


@contextmanager
def growing_table(path: Path, schema: Mapping[str, pl.DataType]) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Gives a function that appends a piece, with the columns of ``schema``; the file is whole once left."""
    # polars writes a table at once or not at all; loading pyarrow takes a while, so it waits until here
    from pyarrow import parquet

    stamped = pl.DataFrame(schema=schema).to_arrow().schema.with_metadata({STAMP: str(VERSION)})
    waiting: list[pl.DataFrame] = []

    def append(piece: pl.DataFrame) -> None:
        waiting.append(piece)
        if sum(each.estimated_size() for each in waiting) >= _BYTES_AT_ONCE:
            write()

    def write() -> None:
        if waiting:
            table = pl.concat(waiting).to_arrow()
            waiting.clear()
            writer.write_table(table.replace_schema_metadata(stamped.metadata))

    with parquet.ParquetWriter(path, stamped, compression="zstd") as writer:
        yield append
        write()
