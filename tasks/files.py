"""Facts of a user's files."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from patchboard.user_paths import expanded


def sha256_of(file: str | Path) -> str:
    """In hex, for the manifest: a path alone does not tell which data a run saw.

    A file is read once in a process, as long as neither its size nor any of its times changes.
    """
    path = expanded(file).resolve()
    stat = path.stat()
    return _sha256(path, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))


@lru_cache(maxsize=1024)
def _sha256(path: Path, stamp: tuple[int, ...]) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
