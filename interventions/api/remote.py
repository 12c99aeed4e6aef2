"""Where to run but here, as a user says it."""

from __future__ import annotations

from collections.abc import Callable

from patchboard.errors import SpecError
from patchboard.execution.options import Remote


def remote_of(
    remote: bool | str | None,
    job_tokens: int,
    patience: float,
    vectors: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Remote | None:
    """The host to run on, None for here. remote: True, or "", for NDIF's; or a URL. Raises SpecError."""
    for flag, value in (("--job-tokens", job_tokens), ("--patience", patience)):
        if value <= 0:
            raise SpecError(flag, f"{value} is not above 0", "give more")
    if remote is None or remote is False:
        return None
    return Remote("" if remote is True else remote, job_tokens, patience, vectors, tell)
