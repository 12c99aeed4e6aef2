"""Before a job is sent: key, host, model, versions. Each that is wrong is one line with its remedy."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from packaging.version import InvalidVersion, Version

from patchboard.engine.ndif.host import Host, HostRefusal, PassingFailure
from patchboard.errors import ModelError, RemoteRunError, SpecError
from patchboard.hub import is_commit
from patchboard.spec.sections import ModelSection

NDIF = "https://api.ndif.us"
_KEY_PAGE = "https://login.ndif.us"


@dataclass(frozen=True)
class Served:
    """What the host says of itself before a job runs."""

    model_key: str
    repo_id: str
    level: str
    versions: dict[str, str]
    """Of python and the packages that matter, as the host names them; empty where it does not."""
    commit: str = ""
    """Of the model, where the host serves it by its commit."""


def host_of(address: str, patience: float) -> Host:
    """The host of ``--remote [URL]``: "" is NDIF_HOST, else NDIF. Raises SpecError without a key or a URL.

    The key is NDIF_API_KEY, or what `nnsight login` has stored. One's own server may need none.
    """
    from patchboard.engine.nnsight_model import import_nnsight

    import_nnsight()
    from nnsight.schema.config import CONFIG

    url = address or os.environ.get("NDIF_HOST") or CONFIG.API.HOST or NDIF
    key = os.environ.get("NDIF_API_KEY") or CONFIG.API.APIKEY or ""
    if not url.startswith(("http://", "https://")):
        flag = "--remote" if address else "NDIF_HOST"
        raise SpecError(flag, f"'{url}' is no URL of a host", f"write http(s)://HOST[:PORT], such as {NDIF}")
    if not key and not address:
        raise SpecError(
            "NDIF_API_KEY", f"is not set, {url} asks for one", f"get a key at {_KEY_PAGE}, then export NDIF_API_KEY=…"
        )
    return Host(url, key, patience)


def check_host(host: Host, section: ModelSection) -> Served:
    """Raises SpecError (the key), ModelError (not served), RemoteRunError (unreachable, not loaded, versions)."""
    deployments = _deployments(host)
    entry = _deployment(deployments, host, section)
    level = str(entry.get("deployment_level", "HOT"))
    if level == "COLD":
        raise RemoteRunError(
            host.url,
            f"has {entry['repo_id']} but not loaded (COLD); loaded are {_loaded(deployments)}",
            "ask for it to be scheduled (docs/remote.md), or name a loaded model; then the same command",
        )
    versions = _versions(host)
    _check_versions(host, versions)
    revision = str(entry.get("revision") or "")
    commit = revision if is_commit(revision) else ""
    return Served(str(entry.get("model_key") or ""), str(entry["repo_id"]), level, versions, commit)


def _deployments(host: Host) -> list[dict[str, Any]]:
    try:
        status = host.get_json("/status")
    except PassingFailure as error:
        raise RemoteRunError(host.url, str(error), "check the address and the network, then the same command") from None
    except HostRefusal as error:
        if error.status in (401, 403):
            raise _refused_key(host, error) from None
        raise RemoteRunError(host.url, f"answers {error}", "is this an NDIF host? see docs/remote.md") from None
    deployments = status.get("deployments") if isinstance(status, dict) else None
    if not isinstance(deployments, dict):
        raise RemoteRunError(host.url, "its /status lists no deployments", "is this an NDIF host? see docs/remote.md")
    return [{"repo_id": name, **entry} for name, entry in deployments.items() if isinstance(entry, dict)]


def _refused_key(host: Host, error: HostRefusal) -> SpecError:
    return SpecError("NDIF_API_KEY", f"{host.url} refuses it ({error.detail})", f"get a key at {_KEY_PAGE}")


def _deployment(deployments: list[dict[str, Any]], host: Host, section: ModelSection) -> dict[str, Any]:
    """The best replica of the model at its revision."""
    named = [d for d in deployments if str(d["repo_id"]).lower() == section.name.lower()]
    named = [d for d in named if d.get("task") in (None, "text-generation")]
    fitting = [d for d in named if (d.get("revision") or "main") == section.revision]
    order = {"HOT": 0, "WARM": 1, "COLD": 2}
    if fitting:
        return min(fitting, key=lambda d: order.get(str(d.get("deployment_level")), 1))
    if named:
        served = ", ".join(sorted({str(d.get("revision") or "main") for d in named}))
        raise ModelError(
            "model.revision", f"{host.url} has {section.name} at {served}, not {section.revision}", f"use {served}"
        )
    names = sorted({str(d["repo_id"]) for d in deployments})
    near = difflib.get_close_matches(section.name, names, n=3, cutoff=0.5) or names[:5]
    remedy = f"served are {', '.join(near)}" if near else "see docs/remote.md for hosting it yourself"
    raise ModelError("model.name", f"{host.url} does not serve '{section.name}'", remedy)


def _loaded(deployments: list[dict[str, Any]]) -> str:
    return ", ".join(sorted({str(d["repo_id"]) for d in deployments if d.get("deployment_level") == "HOT"})) or "none"


def _versions(host: Host) -> dict[str, str]:
    """The host's python and packages; empty where it does not tell."""
    try:
        environment = host.get_json("/env")
    except (PassingFailure, HostRefusal):
        return {}
    packages = environment.get("packages", {}) if isinstance(environment, dict) else {}
    kept = {name: str(packages[name]) for name in ("nnsight", "torch", "transformers") if name in packages}
    python = environment.get("python_version") if isinstance(environment, dict) else None
    return kept | ({"python": str(python).split()[0]} if python else {})


def _check_versions(host: Host, versions: dict[str, str]) -> None:
    """nnsight's request format changes between minor versions: a mismatch fails in ways that don't tell."""
    theirs, ours = versions.get("nnsight"), version("nnsight")
    if theirs and _minor(theirs) != _minor(ours):
        raise RemoteRunError(
            host.url,
            f"runs nnsight {theirs}, here is {ours}: requests of one are not understood by the other",
            f"pip install nnsight=={theirs} with a patchboard that takes it, or wait until the host has {_minor(ours)}",
        )


def version_notes(versions: dict[str, str]) -> list[str]:
    """Differences that a run may have and its reader must know of. versions: as the host names them."""
    theirs, ours = versions.get("nnsight"), version("nnsight")
    notes = []
    if not theirs:
        notes.append(f"the host does not tell its nnsight, here is {ours}")
    elif theirs != ours:
        notes.append(f"the host runs nnsight {theirs}, here is {ours}")
    transformers = versions.get("transformers")
    if transformers and _minor(transformers) != _minor(version("transformers")):
        notes.append(
            f"the host runs transformers {transformers}, here is {version('transformers')}: numbers may differ"
        )
    return notes


def _minor(version: str) -> str:
    """The line of a version: "0.8" of 0.8.2rc1, and of v0.8."""
    try:
        release = Version(version).release
    except InvalidVersion:
        return version
    return ".".join(map(str, (*release, 0)[:2]))
