"""A run's identity: what its numbers come from beside the spec, noted before anything is computed.

Whoever goes on with a folder, or shows what is finished in it, must have the same one; else it is refused in one line
that names the part, and nothing in the folder changes.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from patchboard.engine.model_contents import check_commit, contents_of
from patchboard.engine.trust import code_is_trusted
from patchboard.errors import ModelError, RunFolderError
from patchboard.execution.plugin_sources import plugin_sources
from patchboard.hub import commit_of
from patchboard.spec import Study
from patchboard.spec.sections import ModelSection
from patchboard.store.folder import RunFolder, check_free, is_finished
from patchboard.store.identity import FRESH, Identity

RESULTS_VERSION = 1
"""Raise it with every change after which any number of any run may be another one: how prompts are drawn, vectors
fitted, edits applied, scores taken or intervals computed; also where only rounding changes for the default engine.
Not for new ops, metrics or columns, nor for new words in a report. ``tests/unit/test_results_version.py`` pins a tiny
run's numbers, and fails where that was forgotten."""

HERE = "here"
"""In this process: the manifest's ``where`` of a local run."""

_PACKAGES = ("patchboard", "torch", "transformers", "nnsight", "numpy", "scikit-learn")


def identity_of(
    study: Study, data: Mapping[str, str], remote: bool, folder: Path, fresh: bool, digest: str = ""
) -> Identity:
    """The run's identity, held against what the folder notes. Looks models up on the Hub or hashes their files, and
    loads none.

    data: the user's data files -> sha256. digest: the folder's, where it is not the study's. Of a run that is finished
    in the folder a model may be gone: its numbers are there. Raises ModelError for any other model that is not there,
    RunFolderError where the folder is another run's.
    """
    digest = digest or study.digest
    check_free(folder, digest, fresh)  # before models are hashed for nothing
    finished = not fresh and is_finished(folder)
    sections = {point.spec.model.model_dump_json(): point.spec.model for point in study.points}.values()
    models: dict[str, Mapping[str, str]] = {}
    for section in sections:
        models[name_of(section)] = _served(section) if remote else _contents(section, finished)
    of_models = {"served": models} if remote else {"models": models}
    identity = Identity(RESULTS_VERSION, code_is_trusted(), data, plugin_sources(study), **of_models)
    check_free(folder, digest, fresh, identity)
    return identity


def check_loaded(folder: RunFolder, section: ModelSection, config: Any) -> None:
    """Raises ModelError where another commit was loaded than the one noted."""
    noted = folder.manifest["identity"]["models"][name_of(section)]
    check_commit(section, noted.get("commit"), getattr(config, "_commit_hash", None))


def name_of(section: ModelSection) -> str:
    """What the manifest calls a model: its revisions are several."""
    return section.label if section.revision == "main" else f"{section.label}@{section.revision}"


def distinct_names(sections: Sequence[ModelSection]) -> list[str]:
    """The name of each of a run's models, with its dtype where that alone tells it from another."""
    names = [name_of(section) for section in sections]
    return [
        f"{name}, dtype {section.dtype}" if names.count(name) > 1 else name
        for name, section in zip(names, sections, strict=True)
    ]


def _contents(section: ModelSection, finished: bool) -> dict[str, str]:
    try:
        return contents_of(section)
    except ModelError:
        if finished:
            return {}
        raise


def _served(section: ModelSection) -> dict[str, str]:
    tokenizer = commit_of(section.name, section.revision)
    return {"revision": section.revision} | ({"tokenizer": tokenizer} if tokenizer else {})


def bind_to_place(folder: RunFolder, where: str) -> None:
    """Note where the run is computed: parts of two hosts, or of a host and this machine, are not to be mixed.

    where: a host's URL, or HERE. Raises RunFolderError.
    """
    known = folder.manifest.get("where", where)
    if known != where:
        what = f"holds parts computed {_place(known)}, this run is {_place(where)}"
        raise RunFolderError(str(folder.path), what, FRESH)
    folder.update_manifest(where=where)


def _place(where: str) -> str:
    return "on this machine" if where == HERE else f"by {where}"


def bind_to_served_commit(folder: RunFolder, section: ModelSection, commit: str) -> None:
    """Note the commit that a host serves, empty where it tells none. Raises RunFolderError where it was another."""
    identity = folder.manifest["identity"]
    served = identity["served"][name_of(section)]
    known = served.get("commit", commit)
    if known != commit:
        what = f"was run on another commit of {section.name} (was {known[:12]}, now {commit[:12]} on the host)"
        raise RunFolderError(str(folder.path), what, FRESH)
    if commit:
        entry = {**served, "commit": commit}
        folder.update_manifest(identity={**identity, "served": {**identity["served"], name_of(section): entry}})


def versions() -> dict[str, str]:
    """Of Python and of the packages that compute."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _PACKAGES}}


def note_process(folder: RunFolder) -> list[str]:
    """Add this process's versions to the manifest's; gives notes on where they differ from the first one's.

    Another version is no refusal: it may round otherwise, and the reader is told.
    """
    own = versions()
    noted: list[dict[str, Any]] = [*folder.manifest.get("processes", []), own]
    folder.update_manifest(versions=noted[0], processes=noted)
    changed = {
        name: list(dict.fromkeys(str(process.get(name)) for process in noted))
        for name in own
        if len({process.get(name) for process in noted}) > 1
    }
    return [f"resumed with another {name} ({', then '.join(found)}): numbers may round otherwise"
            for name, found in changed.items()]  # fmt: skip
