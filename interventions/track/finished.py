"""``patchboard track RUN_DIR``: the mirror of a finished run, made later from its folder."""

from __future__ import annotations

from pathlib import Path

from patchboard.errors import RemoteRunError, RunFolderError, SpecError
from patchboard.store.folder import read_manifest
from patchboard.track.link import Link, link_of_folder
from patchboard.track.mode import Want
from patchboard.track.opening import Say
from patchboard.track.upload import content_of


def mirror(folder: Path, want: Want, say: Say) -> str:
    """Mirror the run folder to W&B, unless it has been; returns a line on where the W&B run is.

    Raises RunFolderError for what is no finished run, SpecError where W&B is off or has no key, RemoteRunError
    where it did not take all of it.
    """
    if want == "off":
        raise SpecError("--wandb", "W&B is off (by WANDB_MODE or WANDB_DISABLED)", "give --wandb online or offline")
    manifest = read_manifest(folder)
    if manifest.get("status") != "finished":
        raise RunFolderError(str(folder), "is not the folder of a finished run", "run its spec first")
    content = content_of(folder)
    link = link_of_folder(want, folder, manifest["name"], manifest["digest"], content.config, say)
    if not isinstance(link, Link):
        return f"{folder}: mirrored already, {link}"
    link.log(content)
    link.close(0, "")
    if link.failed:
        raise RemoteRunError(str(folder), "W&B has not got all of it", "give the same command again")
    remedy = "" if link.mode == "online" else f" (offline; `wandb sync {link.at}` sends it)"
    return f"{folder}: {link.at}{remedy}"
