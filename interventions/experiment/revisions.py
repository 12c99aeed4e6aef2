"""Checkpoints by name: folders here, revisions of a model on the Hub, and the training step that a name tells."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from patchboard.errors import SpecError
from patchboard.hub import silence
from patchboard.user_paths import expanded

_SHOWN = 6
"""Names that an error lists."""


@dataclass(frozen=True)
class Checkpoint:
    """name: a folder, or a revision; as the study's model.name or model.revision has it."""

    name: str
    step: int


@dataclass(frozen=True)
class Listed:
    """Branches and tags of a model; unreached: why the Hub could not be asked, where they are the local cache's."""

    names: tuple[str, ...]
    unreached: str = ""


def step_of(name: str) -> int | None:
    """The training step that a folder's or a revision's name tells; None where it holds no number.

    Of the last part of a path, the first whole number behind "step", else the first one.

    >>> step_of("runs/7/step1000-tokens4B"), step_of("stage2-step-500"), step_of("checkpoint-30"), step_of("main")
    (1000, 500, 30, None)
    """
    last = Path(name).name
    number = re.search(r"step[-_ ]?(\d+)", last, re.IGNORECASE) or re.search(r"(\d+)", last)
    return int(number[1]) if number else None


def in_order(names: Sequence[str], where: str) -> list[Checkpoint]:
    """The checkpoints by step. Raises SpecError at ``where``: a name without a number, one step twice, fewer than 2."""
    by_step: dict[int, Checkpoint] = {}
    for name in names:
        step = step_of(name)
        if step is None:
            what = f"'{name}' has no number, expected the training step in its name"
            raise SpecError(where, what, "name checkpoints as in step1000, or narrow the pattern")
        if step in by_step:
            what = f"'{by_step[step].name}' and '{name}' are both of step {step}"
            raise SpecError(where, what, "narrow the pattern to one of them")
        by_step[step] = Checkpoint(name, step)
    if len(by_step) < 2:
        raise SpecError(where, f"gives {len(by_step)} checkpoint, expected at least 2", "widen it")
    return [by_step[step] for step in sorted(by_step)]


def folders(pattern: str, where: str = "--folders") -> list[Checkpoint]:
    """Folders that match, by step. Raises SpecError where none does, with what there is."""
    pattern = str(expanded(pattern))
    names = [each for each in glob.glob(pattern, recursive=True) if Path(each).is_dir()]
    if not names:
        around = next((each for each in Path(pattern).parents if each.is_dir()), Path("."))
        there = sorted(each.name for each in around.iterdir() if each.is_dir())
        raise SpecError(where, f"no folder matches '{pattern}'", f"{around} holds {_some(there, 'no folder')}")
    return in_order(names, where)


def from_here(folder: Path) -> Path:
    """As a spec is to name it: relative where it can be, so that a run does not tell whose machine it was."""
    return folder.resolve().relative_to(Path.cwd()) if folder.resolve().is_relative_to(Path.cwd()) else folder


def revisions(model: str, pattern: str) -> list[Checkpoint]:
    """Branches and tags of a model on the Hub that match, by step. Raises SpecError where none does."""
    where = "--revisions"
    listed = listed_of(model)
    names = [name for name in listed.names if fnmatchcase(name, pattern)]
    if not names:
        whose = f"'{model}'" + (f" in the local cache ({listed.unreached})" if listed.unreached else "")
        raise SpecError(where, f"no revision of {whose} matches '{pattern}'", f"there is {_some(listed.names, 'none')}")
    return in_order(names, where)


@cache  # asked again when the results are told
def listed_of(model: str) -> Listed:
    """Branches and tags of a Hub model; of its local cache where the Hub cannot be reached. Raises SpecError."""
    from huggingface_hub import list_repo_refs
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    unreached = silence(model, None)
    if unreached:
        return Listed(_cached(model), f"the Hub was not reached: {unreached}")
    try:
        refs = list_repo_refs(model)
    except (RepositoryNotFoundError, GatedRepoError, HFValidationError):
        what = f"the Hub does not show the revisions of '{model}'"
        raise SpecError("model.name", what, "check the name and (for gated models) `hf auth login`") from None
    except Exception as error:  # offline mode, no network, a proxy: each transport raises its own
        return Listed(_cached(model), f"the Hub was not reached: {type(error).__name__}")
    return Listed(tuple(ref.name for ref in (*refs.branches, *refs.tags)))


def _cached(model: str) -> tuple[str, ...]:
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return ()
    repos = [repo for repo in cache.repos if repo.repo_id == model and repo.repo_type == "model"]
    return tuple(sorted(name for repo in repos for name in repo.refs))


def _some(names: Sequence[str], none: str) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else none
