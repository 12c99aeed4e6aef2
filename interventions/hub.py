"""The Hugging Face Hub within a deadline: asked once, and its cache in its place where it is silent.

Its own client repeats what fails for half a minute, and waits for minutes on a host that accepts and never answers.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

ANSWER = 4.0
"""Seconds to the first answer, whatever it hangs in (a name server, say)."""
STALL = 15.0
"""Seconds without a new byte, once it has answered, until a look-up is given up."""

_FIRST = {"model": "config.json", "dataset": "README.md"}
"""A file to ask about; that it is not there is an answer too."""
_TRY_LATER = (408, 429, 500, 502, 503, 504)
"""That its client would repeat for half a minute."""
_SILENT: dict[str, str] = {}
"""Address -> why it was not reached, empty where it was: each is asked once in a process."""

_COMMIT = re.compile("[0-9a-f]{40}")

T = TypeVar("T")


class HubSilentError(Exception):
    """The Hub does not answer, and its cache does not do; the text says in what way."""


def looked_up(load: Callable[[], T], repo: str, revision: str | None, kind: str = "model") -> T:
    """What a library finds on the Hub: a configuration, a tokenizer. Never for files that take minutes to come.

    Raises HubSilentError, or whatever ``load`` raises.
    """
    why = silence(repo, revision, kind)
    if not why:
        try:
            with _quiet():
                return _while_bytes_come(load, repo, kind)
        except TimeoutError:
            why = _SILENT[_address()] = f"{_address()} fell silent for {STALL:g} s"
            _client_log().setLevel(logging.ERROR)  # what was given up may still be trying
    return _from_cache(load, why)


def downloaded(load: Callable[[], T], repo: str, revision: str | None, kind: str = "model") -> T:
    """The same for large files, which may take as long as they do once the Hub has answered."""
    why = silence(repo, revision, kind)
    if why:
        return _from_cache(load, why)
    with _quiet():
        return load()


def silence(repo: str, revision: str | None, kind: str = "model") -> str:
    """Why the Hub cannot be asked, in some words; empty where it answers. Takes ANSWER at most."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    address = _address()
    if address not in _SILENT:
        reasons: list[str] = []
        asking = Thread(target=lambda: reasons.append(_why_silent(repo, revision, kind)), daemon=True)
        asking.start()
        asking.join(ANSWER)
        reason = reasons[0] if reasons else f"did not answer within {ANSWER:g} s"
        _SILENT[address] = reason and f"{address} {reason}"
    return _SILENT[address]


def is_commit(revision: str) -> bool:
    return _COMMIT.fullmatch(revision) is not None


def commit_of(repo: str, revision: str) -> str | None:
    """The commit that a model's revision names now, or as the cache has it where the Hub is silent; None where neither
    tells. Takes ANSWER at most."""
    if is_commit(revision):
        return revision
    commit = None if silence(repo, revision) else _told_commit(repo, revision)
    return commit or _cached_commit(repo, revision)


def _told_commit(repo: str, revision: str) -> str | None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with _quiet():
            return get_hf_file_metadata(
                hf_hub_url(repo, _FIRST["model"], revision=revision), timeout=ANSWER
            ).commit_hash
    except HfHubHTTPError as error:
        return error.response.headers.get("X-Repo-Commit")
    except Exception:  # no name that the Hub could know, or a host that has fallen silent: the cache's word is taken
        return None


def _cached_commit(repo: str, revision: str) -> str | None:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    noted = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "refs" / revision
    return noted.read_text(encoding="utf-8").strip() if noted.is_file() else None


def _address() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _why_silent(repo: str, revision: str | None, kind: str) -> str:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(repo, _FIRST[kind], repo_type=kind, revision=revision), timeout=ANSWER)
    except HfHubHTTPError as error:
        status = error.response.status_code
        return f"answers {status}" if status in _TRY_LATER else ""
    except ValueError:
        return ""  # no name that the Hub could know: for its library to say
    except Exception as error:  # each transport that its client has used raises its own
        name = type(error).__name__
        if "Timeout" in name:
            return f"did not answer within {ANSWER:g} s"
        return f"cannot be reached ({(str(error).splitlines() or [name])[0][:120]})"
    return ""


def _from_cache(load: Callable[[], T], why: str) -> T:
    with _offline(), _quiet():
        try:
            return load()
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            lacks = "its cache here lacks it" if _lacks(error) else f"its cache here does not do ({first})"
            raise HubSilentError(f"{why}; {lacks}") from error


def _lacks(error: BaseException | None) -> bool:
    """Whether it comes from a file that is not there, and not from one that is damaged."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    while error is not None:
        if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _offline() -> Iterator[None]:
    """The Hub's libraries as HF_HUB_OFFLINE has them, which is read once, on import."""
    from huggingface_hub import constants

    datasets: Any = sys.modules.get("datasets")
    owners: list[Any] = [constants, *([datasets.config] if datasets else [])]
    before = [owner.HF_HUB_OFFLINE for owner in owners]
    for owner in owners:
        owner.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for owner, offline in zip(owners, before, strict=True):
            owner.HF_HUB_OFFLINE = offline


@contextmanager
def _quiet() -> Iterator[None]:
    """Each of its client's attempts is a warning; what comes of them is told in one line."""
    log = _client_log()
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _client_log() -> logging.Logger:
    return logging.getLogger("huggingface_hub")


def _while_bytes_come(load: Callable[[], T], repo: str, kind: str) -> T:
    """Raises TimeoutError where neither an end nor a new byte in the cache is seen for STALL seconds."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type=kind)
    results: list[T] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            results.append(load())
        except BaseException as error:
            raised.append(error)

    working = Thread(target=work, daemon=True)
    working.start()
    seen, since = _bytes_in(folder), time.monotonic()
    while True:
        working.join(0.2)
        if results:
            return results[0]
        if raised:
            raise raised[0]
        now = _bytes_in(folder)
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > STALL:
            raise TimeoutError


def _bytes_in(folder: Path) -> tuple[int, int]:
    """Files (also marks of files that are not there), and bytes in them."""
    sizes = []
    for file in folder.rglob("*"):
        try:
            sizes.append(file.stat().st_size)
        except OSError:  # a part that was just renamed
            continue
    return len(sizes), sum(sizes)
