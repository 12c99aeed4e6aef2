"""Work that makes many objects, without the garbage collector's looking through all that was there before."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """The collector sees only what is made inside. A loaded model's libraries are half a million objects, and figures
    and pages make so many that each of these would be looked at several times: a fifth of the time of a report."""
    usual = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(20_000, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()
