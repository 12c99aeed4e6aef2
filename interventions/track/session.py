"""One run and its mirror in W&B: opened before the run starts, filled from its folder, closed with its state."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from patchboard.errors import PatchboardError
from patchboard.track.mode import Want, sweep_of

if TYPE_CHECKING:
    from patchboard.spec.axes import Study
    from patchboard.track.link import Link

EXIT_STOPPED = 255
"""What wandb's own hooks report for Ctrl-C."""


class Mirror:
    """The W&B run of one run, if there is one. Use it through ``mirrored``."""

    def __init__(self, want: Want, quiet: bool):
        self._want: Want = want
        self._quiet = quiet
        self._of_agent = want != "off" and sweep_of(os.environ) is not None
        self._link: Link | None = None
        self._folder: Path | None = None
        self._made: list[Path] = []

    @property
    def may_open(self) -> bool:
        """Whether ``begin`` may open a W&B run: then bad input should be found before it."""
        return self._want != "off" and not self._of_agent

    def open_for_agent(self) -> None:
        """Open the W&B run at once where a sweep's agent waits for it, so that bad input shows in the sweep too."""
        if self._of_agent:
            from patchboard.track.link import link_of_agent

            self._open(lambda: link_of_agent(self._want, say))

    def begin(self, study: Study, folder: Path, fresh: bool) -> None:
        """Open the W&B run of a study, unless what is in the folder has been mirrored already.

        Raises RunFolderError where the run is going to be refused its folder, and as ``link_of_folder``.
        """
        if self._want == "off":
            return
        from patchboard.store.folder import check_free, missing_folders
        from patchboard.store.integrity import MIRROR
        from patchboard.track.config import config_of
        from patchboard.track.folder_lock import in_use, wait_while_in_use
        from patchboard.track.link import link_of_folder

        self._folder = folder
        config = config_of(study.tree, study.digest)
        if self._of_agent:
            if self._link:
                self._link.configure(config)
            wait_while_in_use(folder, say)
            return
        check_free(folder, study.digest, fresh)
        # in use: the run is going to be refused, and the W&B run is another process's
        if in_use(folder) or (not fresh and self._content_with(folder, study.digest)):
            return
        self._made = missing_folders(folder / MIRROR)
        self._open(lambda: link_of_folder(self._want, folder, study.name, study.digest, config, say, fresh))

    def _open(self, link: Callable[[], Link | str]) -> None:
        """Raises PatchboardError; all else that wandb may raise (over its own settings, say) costs a line."""
        try:
            opened = link()
        except PatchboardError:
            raise
        except OSError:  # nothing can be written there, which the run says better
            return
        except Exception as error:
            say(f"W&B could not be started ({' '.join(str(error).split())}); `patchboard track` mirrors the run later")
            return
        if isinstance(opened, str):  # where the mirror is that the folder has already
            return
        self._link = opened
        if opened.mode == "online" and not self._quiet:
            say(f"W&B: {opened.at}")

    def _content_with(self, folder: Path, digest: str) -> bool:
        """Whether a finished run has its mirror: then there is nothing to import wandb for."""
        from patchboard.track.mirror_record import record_for

        return record_for(folder, digest).is_of(folder, "online" if self._want == "online" else "offline")

    def finish(self, folder: Path) -> None:
        """Log the results of the finished run."""
        if self._link:
            from patchboard.track.upload import content_of

            self._link.log(content_of(folder))

    def close(self, error: BaseException | None) -> None:
        """Close the W&B run with the state that the run ended in."""
        if self._link:
            self._link.close(_exit_code(error), _text(error))
        if isinstance(error, PatchboardError) and self._folder and self._made:
            _leave_nothing(self._folder, self._made)


@contextmanager
def mirrored(want: Want, quiet: bool) -> Iterator[Mirror]:
    """A mirror for the run of the body, whose errors, Ctrl-C and SIGTERM it tells W&B and passes on.

    Off, it imports nothing of wandb and changes nothing of the process.
    """
    mirror = Mirror(want, quiet)
    if want == "off":
        yield mirror
        return
    from patchboard.track.signals import sigterm_raises

    with sigterm_raises():
        try:
            yield mirror
        except BaseException as error:
            mirror.close(error)
            raise
        mirror.close(None)


def say(line: str) -> None:
    print(line, file=sys.stderr)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, PatchboardError):
        return error.exit_status
    return 1 if isinstance(error, Exception) else EXIT_STOPPED


def _text(error: BaseException | None) -> str:
    if error is None:
        return ""
    return error.one_line() if isinstance(error, PatchboardError) else repr(error)


def _leave_nothing(folder: Path, made: Sequence[Path]) -> None:
    """Bad input leaves no folder behind; W&B's local files alone, which we have put there, would be one.

    made: the folders that were made for them, innermost first.
    """
    from patchboard.store.folder import remove_empty
    from patchboard.store.integrity import LOCK, MIRROR

    if folder.is_dir() and {entry.name for entry in folder.iterdir()} <= {MIRROR, LOCK}:
        shutil.rmtree(folder / MIRROR, ignore_errors=True)
        (folder / LOCK).unlink(missing_ok=True)
        remove_empty(path for path in made if path != folder / MIRROR)
