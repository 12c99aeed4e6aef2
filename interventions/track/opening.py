"""Opening a W&B run: online, or offline where there is no key or no network. Never a prompt, never a long wait."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from patchboard.errors import SpecError
from patchboard.track.mode import Want
from patchboard.track.network import unreachable

if TYPE_CHECKING:
    import wandb

Say = Callable[[str], None]
"""Takes a line for standard error."""
Mode = Literal["online", "offline"]

PROJECT = "patchboard"
INIT_TIMEOUT = 6.0
"""Seconds that wandb.init may wait for a host that answered just before; with the question that is below 15."""
FINISH_TIMEOUT = 60.0
"""Seconds for what is left to be sent at the end; beyond it the host is taken for gone, and the rest stays local."""


@dataclass(frozen=True)
class Identity:
    """Under what a W&B run is opened."""

    id: str | None
    """None: as the environment, that is a sweep's agent, says."""
    name: str | None
    config: Mapping[str, Any]
    folder: Path | None
    """Local files go into ``wandb/`` under it; None: under WANDB_DIR, or where the command runs."""

    @property
    def later(self) -> str:
        return f"`patchboard track {self.folder or 'RUN_DIR'}` mirrors the run later"


def mode_for(want: Want, identity: Identity, say: Say) -> Mode:
    """online with a key and a host that answers, else offline; at once without a key, after seconds without a host.

    A key that is of no use is told in a line. Raises SpecError where ``online`` is wanted and there is no good key.
    """
    import wandb
    from wandb.errors import Error

    _set_up("offline" if want == "offline" else "online")
    if want == "offline":
        return "offline"
    try:
        known, refused = wandb.login(prompt=False, verify=False), ""
    except (Error, ValueError) as error:
        known, refused = False, f"the key cannot be one ({first_line(error)})"
    if not known and want == "online":
        what = refused or "online needs a key and there is none"
        raise SpecError("--wandb", what, "run `wandb login`, or set WANDB_API_KEY")
    why = refused or (unreachable(wandb.setup().settings.base_url) if known else "")
    if why:
        say(f"W&B is offline: {why}; {identity.later}")
    return "online" if known and not why else "offline"


def opened(mode: Mode, identity: Identity, say: Say) -> wandb.Run:
    """An open W&B run in that mode; offline, with one line, where the host answers but opens none."""
    import wandb
    from wandb.errors import Error

    if mode == "online":
        try:
            return _init("online", identity)
        except (Error, OSError) as error:  # a refused key, an unknown entity, a proxy that is none
            say(f"W&B is offline: it opened no run ({first_line(error)}); {identity.later}")
            wandb.teardown()  # its service still holds the run's id
            _set_up("offline")
    return _init("offline", identity)


def _set_up(mode: Mode) -> None:
    """Quiet, and in our mode where WANDB_MODE says another: the flag is the more specific of the two."""
    if not os.environ.get("WANDB_MODE", "set"):
        del os.environ["WANDB_MODE"]  # empty counts as unset; wandb takes it for a mode, and refuses it
    import wandb

    wandb.setup(settings=wandb.Settings(silent=True, mode=mode))
    # wandb's telemetry complains on standard error, line by line, where the host refuses it
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


def _init(mode: Mode, identity: Identity) -> wandb.Run:
    import wandb

    if identity.folder:
        identity.folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(
        silent=True, init_timeout=INIT_TIMEOUT, finish_timeout=FINISH_TIMEOUT, finish_timeout_raises=True
    )
    return wandb.init(
        mode=mode,
        id=identity.id,
        resume="allow" if identity.id else None,
        name=identity.name,
        project=None if wandb.setup().settings.project else PROJECT,
        dir=identity.folder,
        config=dict(identity.config),
        settings=settings,
    )


def local_folder(folder: Path) -> Path | None:
    """Where W&B's local files of a run go: into its folder, unless WANDB_DIR says otherwise."""
    return None if os.environ.get("WANDB_DIR") else folder


def first_line(error: BaseException) -> str:
    """What an error of wandb says, cut to its first sentence."""
    return " ".join(str(error).split(". ")[0].split()) or type(error).__name__
