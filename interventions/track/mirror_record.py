"""What a run folder knows of its mirror in W&B: ``wandb/mirror.json``, so that nothing is sent twice."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from patchboard.store.folder import atomically
from patchboard.store.integrity import MANIFEST, MIRROR, MIRROR_RECORD


@dataclass(frozen=True)
class MirrorRecord:
    """id: the W&B run's. mode: how it was opened last. at: its URL, or the local folder of an offline one.

    holds: a hash of the manifest of the results that it has in full; empty before.
    """

    id: str
    mode: str = ""
    at: str = ""
    holds: str = ""

    def is_of(self, folder: Path, mode: str) -> bool:
        """Whether the folder as it is has been mirrored in that mode; what is online need not be offline too."""
        return bool(self.holds) and self.holds == _state_of(folder) and self.mode in ("online", mode)

    def opened(self, mode: str, at: str) -> MirrorRecord:
        return replace(self, mode=mode, at=at, holds="")

    def completed(self, folder: Path) -> MirrorRecord:
        return replace(self, holds=_state_of(folder))


def record_for(folder: Path, digest: str, fresh: bool = False) -> MirrorRecord:
    """The folder's record, with the id of the W&B run to go on with; a new one where none is, or for a fresh run.

    The id holds chance and not the folder's name: on two machines folders have the same name.
    """
    known = None if fresh else _read(folder)
    if known and known.holds in ("", _state_of(folder)):
        return known
    return MirrorRecord(f"{digest[:8]}-{secrets.token_hex(4)}")


def write_record(folder: Path, record: MirrorRecord) -> None:
    text = json.dumps(asdict(record), indent=1)
    atomically(folder / MIRROR / MIRROR_RECORD, lambda path: path.write_text(text + "\n", encoding="utf-8"))


def _read(folder: Path) -> MirrorRecord | None:
    try:
        return MirrorRecord(**json.loads((folder / MIRROR / MIRROR_RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # lost or damaged: the folder is mirrored into a new W&B run


def _state_of(folder: Path) -> str:
    """A hash that every new run of the spec changes: the manifest has its times."""
    file = folder / MANIFEST
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.exists() else ""
