"""What a run's numbers come from, as its manifest notes it from the start, and how two such notes differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

_COMMITS = {"commit": "commit of", "revision": "revision of", "tokenizer": "commit of the tokenizer of"}
"""Parts of a model that are told by name, and are compared where both sides know them."""

FRESH = "use --fresh to start over, or another --out"


@dataclass(frozen=True)
class Identity:
    """All that a run's numbers depend on beside its spec. Two runs of one spec and one identity have the same numbers.

    results: the package's version of numbers. trust_remote_code: whether a model's own code may run.
    data: the user's data files -> sha256. plugins: plug-in -> sha256 of its source.
    models: model -> ``commit`` of a Hub model, or its files -> sha256 (an adapter's beside them); empty where neither
    can be told now, and then nothing is held against it.
    served: of a remote run in place of ``models``: model -> ``revision`` asked for, ``tokenizer`` (commit of the one
    here), and ``commit`` where the host tells it.
    """

    results: int
    trust_remote_code: bool = False
    data: Mapping[str, str] = field(default_factory=dict)
    plugins: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    served: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For the manifest; of ``models`` and ``served`` the one that is meant."""
        return {name: value for name, value in asdict(self).items() if value or name not in ("models", "served")}


def difference(noted: Mapping[str, Any], own: Identity) -> tuple[str, str] | None:
    """The first part in which a folder's run is another one (what, remedy); None where it is this one.

    noted: a manifest's ``identity``. Models are compared where both runs had them here, or both on a host.
    """
    trusted = noted.get("trust_remote_code", False)
    if trusted != own.trust_remote_code:
        remedy = (
            f"give --trust-remote-code {'too' if trusted else 'no longer'}, --fresh to start over, or another --out"
        )
        return f"was run {'with' if trusted else 'without'} --trust-remote-code", remedy
    return next(((what, FRESH) for what in _differences(noted, own)), None)


def _differences(noted: Mapping[str, Any], own: Identity) -> Iterator[str]:
    if noted.get("results") != own.results:
        yield (
            f"holds numbers of results version {noted.get('results')}, this patchboard computes version {own.results}"
        )
    for file, was, now in _changed(noted.get("data", {}), own.data):
        yield f"was run on other contents of {file} ({_was_and_is(was, now)})"
    for name, was, now in _changed(noted.get("plugins", {}), own.plugins):
        yield f"was run with another plug-in {name} ({_was_and_is(was, now)})"
    for group, mine in (("models", own.models), ("served", own.served)):
        theirs = noted.get(group, {})
        for model in mine if theirs else ():
            yield from _of_model(model, theirs.get(model, {}), mine[model])


def _of_model(model: str, noted: Mapping[str, str], own: Mapping[str, str]) -> Iterator[str]:
    for part, was, now in _changed(noted, own) if own else ():
        if part in _COMMITS:
            if was and now:
                yield f"was run on another {_COMMITS[part]} {model} ({_was_and_is(was, now)})"
        else:
            yield f"was run on other contents of {part} of {model} ({_was_and_is(was, now)})"


def _changed(noted: Mapping[str, str], own: Mapping[str, str]) -> Iterator[tuple[str, str | None, str | None]]:
    """(name, value noted, value now); None where there was or is none."""
    for name in sorted({*noted, *own}):
        if noted.get(name) != own.get(name):
            yield name, noted.get(name), own.get(name)


def _was_and_is(was: str | None, now: str | None) -> str:
    return f"was {_short(was)}, now {_short(now)}"


def _short(value: str | None) -> str:
    """A digest's first digits; names of branches and tags stay."""
    return "not there" if value is None else value[:12]
