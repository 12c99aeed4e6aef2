"""An open W&B run with the run folder's record of it. What fails in W&B costs a line, never the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchboard.track import upload
from patchboard.track.mirror_record import MirrorRecord, record_for, write_record
from patchboard.track.mode import Want
from patchboard.track.opening import Identity, Say, local_folder, mode_for, opened

if TYPE_CHECKING:
    import wandb


class Link:
    """of: the run folder that the W&B run belongs to, with its record; None for an agent's, which is the sweep's.

    mode, at: how it is open, and its URL or the local folder of an offline one. failed: W&B lacks some of the run.
    """

    def __init__(self, run: wandb.Run, say: Say, of: tuple[MirrorRecord, Path] | None = None):
        self._run, self._say = run, say
        self.mode = "offline" if run.offline else "online"
        self.at = str(Path(run.dir).parent) if run.offline else str(run.url)
        self.failed = self._complete = False
        self._of = (of[0].opened(self.mode, self.at), of[1]) if of else None
        self._write_record()

    def configure(self, config: dict[str, Any]) -> None:
        with self._surviving():
            upload.configure(self._run, config)

    def log(self, content: upload.Content) -> None:
        """Log the content of a finished run's folder."""
        with self._surviving():
            upload.log_content(self._run, content)
            self._complete = True

    def close(self, exit_code: int, error: str) -> None:
        """Close the W&B run; wait for what is left to be sent, but not for ever. error: for its log and summary."""
        with self._surviving():
            if error:
                self._run.write_logs(f"error: {error}")
                self._run.summary["error"] = error
            self._run.finish(exit_code=exit_code)
        if self._complete and not self.failed:
            self._write_record()

    def _write_record(self) -> None:
        if self._of:
            record, folder = self._of
            write_record(folder, record.completed(folder) if self._complete else record)

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """Turns what W&B raises into a line. Broad, since its service can fail as a socket, as JSON, as anything."""
        try:
            yield
        except Exception as error:
            if not self.failed:
                what = " ".join(str(error).split()) or type(error).__name__
                self._say(f"W&B has not got all of this run ({what}); `patchboard track RUN_DIR` mirrors it later")
            self.failed = True


def link_of_agent(want: Want, say: Say) -> Link:
    """The run that the sweep's agent has named in the environment. Raises SpecError as ``mode_for``."""
    identity = Identity(None, None, {}, None)
    return Link(opened(mode_for(want, identity, say), identity, say), say)


def link_of_folder(
    want: Want, folder: Path, name: str, digest: str, config: dict[str, Any], say: Say, fresh: bool = False
) -> Link | str:
    """The W&B run of a run folder; or where it is, if the folder as it is has been mirrored.

    Raises SpecError as ``mode_for``.
    """
    record = record_for(folder, digest, fresh)
    identity = Identity(record.id, f"{name}-{digest[:8]}", config, local_folder(folder))
    mode = mode_for(want, identity, say)
    if record.is_of(folder, mode):
        return record.at
    return Link(opened(mode, identity, say), say, (record, folder))
