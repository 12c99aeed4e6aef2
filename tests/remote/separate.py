"""A job's code as if in another process than the model: NDIF's process sandbox, without the process.

What differs for a job, and nothing else does:

- A value that it reads is a copy. When the job next asks the model for anything, or ends, the copy is written
  back to where it was read: an edit in place counts if it was made by then, and is lost later.
- A value that it assigns is sent as it is at that moment: edits of the assigned tensor after that are lost.
- Its modules have structure, but no weights: parameters lie on the meta device. Calling a module sends the
  arguments to the model's side, and a copy of the outcome home.
"""

from __future__ import annotations

import copy
from typing import Any

from nnsight import TransformersModel
from nnsight.intervention.envoy import Envoy
from nnsight.intervention.interleaver import Event, Mediator, Pending
from torch.nn import Module

_call, _interleave = Envoy.__call__, Envoy.interleave
_event = Mediator.event.__func__  # pyright: ignore[reportFunctionMemberAccess]
_flush = Mediator.flush


def _event_across(cls: type[Mediator], event: Event, location: str, *rest: Any) -> Any:
    """Park for an event; what goes and what comes are copies."""
    mediator = Mediator.current(location)
    occurrence = mediator.wanted(location)
    value = _event(cls, event, location, *copy.deepcopy(rest))
    if event is Event.VALUE:
        value = copy.deepcopy(value)
        mediator.held = (location, occurrence, value)  # pyright: ignore[reportAttributeAccessIssue]
    return value


def _flush_across(mediator: Mediator) -> None:
    """What nnsight calls before a worker moves on and when its block ends: write the last read back."""
    _flush(mediator)
    location, occurrence, value = getattr(mediator, "held", None) or (None, None, None)
    mediator.held = None  # pyright: ignore[reportAttributeAccessIssue]
    if location is not None:
        # the model is still paused at that visit: the one place where a read can be answered back
        mediator.worker.parent.switch(  # pyright: ignore[reportOptionalMemberAccess]
            Pending(Event.SWAP, location, occurrence, copy.deepcopy(value))
        )


class SeparateProcess:
    """The two sides of one model. Patches nnsight in this process, for good."""

    def __init__(self, host: TransformersModel, shell: Module) -> None:
        """shell: the host's module without weights."""
        self._host = host
        self._envoys = {envoy.path: envoy for envoy in host.modules()}
        self._shells = dict(zip(map(id, host._module.modules()), shell.modules(), strict=True))
        Mediator.event = classmethod(_event_across)  # pyright: ignore[reportAttributeAccessIssue]
        Mediator.flush = _flush_across  # pyright: ignore[reportAttributeAccessIssue]
        Envoy.interleave = self._interleave()
        Envoy.__call__ = self._call()

    def objects(self, persistent: dict[str, Any]) -> dict[str, Any]:
        """What a payload's references mean on the job's side: modules without weights."""
        return {name: self._shells.get(id(found), found) for name, found in persistent.items()}

    def _is_shell(self, envoy: Envoy) -> bool:
        return self._envoys.get(envoy.path, envoy) is not envoy

    def _interleave(self) -> Any:
        def interleave(envoy: Envoy, fn: Any, *args: Any, batcher: Any = None, **kwargs: Any) -> Any:
            if not self._is_shell(envoy):
                return _interleave(envoy, fn, *args, batcher=batcher, **kwargs)
            if batcher is not None:  # inputs are assembled on the model's side, from copies
                batcher.envoy, batcher.invokes = self._host, copy.deepcopy(batcher.invokes)
            name = fn if isinstance(fn, str) else fn.__name__
            args, kwargs = copy.deepcopy((args, kwargs))
            return copy.deepcopy(_interleave(self._host, getattr(self._host, name), *args, batcher=batcher, **kwargs))

        return interleave

    def _call(self) -> Any:
        def call(envoy: Envoy, *args: Any, hook: bool = False, **kwargs: Any) -> Any:
            if not self._is_shell(envoy):
                return _call(envoy, *args, hook=hook, **kwargs)
            args, kwargs = copy.deepcopy((args, kwargs))
            return copy.deepcopy(_call(self._envoys[envoy.path], *args, hook=hook, **kwargs))

        return call
