"""Facts of a user's data file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from patchboard.user_paths import expanded


def sha256_of(file: str | Path) -> str:
    """In hex, for the manifest: a path alone does not tell which data a run saw."""
    with open(expanded(file), "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
