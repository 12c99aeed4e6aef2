"""Exported vectors to a repository on the Hub, with the run's spec and report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from patchboard.errors import RemoteRunError, SpecError


def check_repo(repo: str) -> None:
    """Raises SpecError for what is no name of a repository."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise SpecError("--push", f"found '{repo}', expected OWNER/NAME", "name a repository on the Hub")


def push(repo: str, files: Sequence[Path], title: str) -> str:
    """Upload the files into a model repository, made private where it is not there; gives the commit's address.

    Raises RemoteRunError where the Hub refuses or is not reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    operations = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=str(file)) for file in files]
    try:
        api.create_repo(repo, private=True, exist_ok=True)
        return str(api.create_commit(repo, operations, commit_message=title).commit_url)
    except HfHubHTTPError as error:
        status = error.response.status_code
        remedy = "log in with `hf auth login`, or set HF_TOKEN" if status in (401, 403) else "give the command again"
        what = f"{api.endpoint} answers {status} to the upload into {repo}; the files are here"
        raise RemoteRunError("--push", what, remedy) from error
    except Exception as error:  # each transport that its client has used raises its own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        what = f"{api.endpoint} cannot be reached ({first}); the files are here"
        raise RemoteRunError("--push", what, "check the network, then give the command again") from error
