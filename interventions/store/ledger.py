"""Ids of jobs that a host was sent, on disk before anything waits for them: a new process picks results up."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from patchboard.store.folder import RunFolder


@dataclass
class JobLedger:
    """``parts/{prefix}jobs.json``, and for each finished job ``parts/{prefix}job-{key}.json``, written last."""

    folder: RunFolder
    prefix: str

    def __post_init__(self) -> None:
        self._name = f"parts/{self.prefix}jobs.json"
        known = self._read(self._name) or {}
        self._sent: dict[str, Any] = known.get("sent", {})
        self.halved: dict[str, int] = known.get("halved", {})
        """Key of a job that did not fit in the host's memory -> how often its passes were halved since."""

    def _write(self) -> None:
        self.folder.write_json(self._name, {"sent": self._sent, "halved": self.halved})

    def _read(self, name: str) -> Any:
        return json.loads((self.folder.path / name).read_text(encoding="utf-8")) if self.folder.has(name) else None

    def id_of(self, key: str) -> str | None:
        return self._sent.get(key, {}).get("id")

    def record(self, key: str, name: str, id: str) -> None:
        self._sent[key] = {"name": name, "id": id}
        self._write()

    def forget(self, key: str) -> None:
        if self._sent.pop(key, None) is not None:
            self._write()

    def halve(self, key: str) -> None:
        self.halved[key] = self.halved.get(key, 0) + 1
        self._write()

    def finish(self, key: str, facts: dict[str, Any]) -> None:
        """All that the job brought is on disk."""
        self.folder.write_json(self._done(key), facts)

    def finished(self, key: str) -> dict[str, Any] | None:
        """The facts of a finished job."""
        return self._read(self._done(key))

    def all_finished(self) -> list[dict[str, Any]]:
        """The facts of all finished jobs, by name."""
        names = [f"parts/{file.name}" for file in (self.folder.path / "parts").glob(f"{self.prefix}job-*.json")]
        return sorted((self._read(name) for name in names), key=lambda facts: facts["name"])

    def _done(self, key: str) -> str:
        return f"parts/{self.prefix}job-{key}.json"
