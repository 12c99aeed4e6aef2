"""Stock nnsight clients' three ways to run a job, on one prompt."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

IDS = torch.tensor([[1, 6, 7, 8, 9]])
PATIENCE = 1.0
"""Seconds after which a client that could have had its answer in 0.1 counts as waiting for ever."""
_ANSWERS_WITHIN = 20.0
"""Seconds, on a machine that does much else."""


def remote_error() -> type[Exception]:
    """nnsight's, imported late: importing nnsight mounts `save` on object."""
    from nnsight.intervention.backends.remote import RemoteError

    return RemoteError


def blocking(model: Any, where: dict[str, Any], layer: int = 2) -> Tensor:
    """A block's output, over a websocket; where: {"remote": url}, {"backend": …} or {} for here."""
    with model.trace(IDS, **where):
        found = model.model.layers[layer].output.save()
    return found


def backend_of(model: Any, url: str, **settings: Any) -> Any:
    from nnsight.intervention.backends.remote import RemoteBackend

    return RemoteBackend(model.to_model_key(), host=url, blocking=False, **settings)


def submitted(model: Any, url: str, layer: int = 2) -> Any:
    """The backend of a job that does not block; its result is {"found": a block's output}."""
    backend = backend_of(model, url)
    with model.trace(IDS, backend=backend):
        found = model.model.layers[layer].output.save()  # noqa: F841  # comes home as a value of the dict
    return backend


def polled(backend: Any, seconds: float = _ANSWERS_WITHIN) -> Any:
    """The result, or None where none came in time."""
    deadline = time.monotonic() + seconds
    while (found := backend()) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return found
