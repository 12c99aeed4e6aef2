"""Where the file of a vector lies: a path, or a repository on the Hub at the commit that its revision names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchboard.errors import SpecError
from patchboard.hub import HubSilentError, downloaded
from patchboard.registry import suggest
from patchboard.tasks.files import sha256_of
from patchboard.user_paths import expanded

HUB = "hf://"
_KINDS = {"datasets": "dataset", "models": "model"}
_FETCHED: dict[tuple[str, str, str], Path] = {}
"""Text of a spec, address and cache -> the file here: the same for all that a process plans after its last check."""


@dataclass(frozen=True)
class Located:
    """A file that is here.

    name: the whole path, or the text of the spec for one of the Hub. commit: of the Hub's, else "".
    """

    name: str
    path: Path
    sha256: str
    commit: str = ""


@dataclass(frozen=True)
class HubFile:
    """``hf://repo/path@revision``, read."""

    repo: str
    path: str
    revision: str
    kind: str


def located(file: str, where: str, ask: bool = False) -> Located:
    """The file that a spec names. ask: the Hub, also where this process has fetched it before.

    Raises SpecError at ``where`` for one that is not there or cannot be fetched.
    """
    if file.startswith(HUB):
        path = _fetched(file, where, ask)
        snapshot = path.parts[path.parts.index("snapshots") + 1] if "snapshots" in path.parts else ""
        return Located(file, path, sha256_of(path), snapshot)
    path = expanded(file).resolve()
    if path.is_dir():
        inside = path / "vectors.safetensors"
        remedy = f"write {file.rstrip('/')}/{inside.name}" if inside.exists() else "name a file in it"
        raise SpecError(where, f"'{file}' is a folder", remedy)
    if not path.is_file():
        beside = [each.name for each in path.parent.glob("*")] if path.parent.is_dir() else []
        near = suggest(path.name, beside)
        remedy = near if near.startswith("did you mean") else "give the path of a file, or hf://repo/path"
        raise SpecError(where, f"there is no file '{file}'", remedy)
    return Located(str(path), path, sha256_of(path))


def hub_file(file: str, where: str) -> HubFile:
    """The parts of an address of the Hub. Raises SpecError where some are missing."""
    address, at, revision = file.removeprefix(HUB).partition("@")
    parts = [part for part in address.split("/") if part]
    kind = _KINDS.get(parts[0], "model") if parts else "model"
    parts = parts[1:] if parts and parts[0] in _KINDS else parts
    if len(parts) < 3 or (at and not revision):
        what = f"found '{file}', expected hf://OWNER/REPO/PATH, perhaps with @REVISION behind it"
        raise SpecError(where, what, "write hf://someone/vectors/added.safetensors")
    return HubFile("/".join(parts[:2]), "/".join(parts[2:]), revision or "main", kind)


def _fetched(file: str, where: str, ask: bool) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    key = file, constants.ENDPOINT, str(constants.HF_HUB_CACHE)
    if not ask and key in _FETCHED:
        return _FETCHED[key]
    at = hub_file(file, where)

    def load() -> str:
        return hf_hub_download(at.repo, at.path, repo_type=at.kind, revision=at.revision, cache_dir=key[2])

    try:
        _FETCHED[key] = Path(downloaded(load, at.repo, at.revision, at.kind))
    except HubSilentError as error:
        raise SpecError(where, f"'{file}' could not be fetched ({error})", "check the network") from error
    except RevisionNotFoundError:
        raise SpecError(where, f"{at.repo} has no revision '{at.revision}'", "name a branch, tag or commit") from None
    except RepositoryNotFoundError:
        what = f"there is no repository '{at.repo}' on the Hub that can be read"
        raise SpecError(where, what, "check its name; private ones need HF_TOKEN") from None
    except EntryNotFoundError:
        raise SpecError(where, f"{at.repo} has no file '{at.path}' at {at.revision}", "check the path") from None
    except Exception as error:  # each transport that its client has used raises its own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SpecError(where, f"'{file}' could not be fetched ({first})", "give the command again") from error
    return _FETCHED[key]
