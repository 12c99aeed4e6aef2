"""A run folder's parts belong together: from one place, one set of data files and one set of model files."""

from __future__ import annotations

from collections.abc import Mapping

from patchboard.errors import RunFolderError
from patchboard.store.folder import RunFolder

HERE = "here"
"""In this process: the manifest's ``where`` of a local run."""
_REMEDY = "use --fresh to start over, or another --out"


def bind_to_place(folder: RunFolder, where: str) -> None:
    """Note where the run is computed: parts of two hosts, or of a host and this machine, are not to be mixed.

    where: a host's URL, or HERE. Raises RunFolderError.
    """
    known = folder.manifest.get("where", where)
    if known != where:
        what = f"holds parts computed {_in_words(known)}, this run is {_in_words(where)}"
        raise RunFolderError(str(folder.path), what, _REMEDY)
    folder.update_manifest(where=where)


def bind_to_model_files(folder: RunFolder, files: Mapping[str, str]) -> None:
    """Note the contents of a model's files that no revision names. Raises RunFolderError where they have changed since.

    files: path -> sha256.
    """
    known = folder.manifest.get("model_files", {})
    changed = [file for file, digest in files.items() if known.get(file, digest) != digest]
    if changed:
        raise RunFolderError(str(folder.path), f"was run on other contents of {changed[0]}", _REMEDY)
    if files:
        folder.update_manifest(model_files={**known, **files})


def bind_to_data(folder: RunFolder, data: Mapping[str, str]) -> None:
    """Note the data files' contents in the manifest. Raises RunFolderError where they have changed since.

    data: path -> sha256.
    """
    known = folder.manifest.get("data", data)
    changed = sorted(file for file in {*known, *data} if known.get(file) != data.get(file))
    if changed:
        raise RunFolderError(str(folder.path), f"was run on other contents of {changed[0]}", _REMEDY)
    if "data" not in folder.manifest:
        folder.update_manifest(data=data)


def _in_words(where: str) -> str:
    return "on this machine" if where == HERE else f"by {where}"
