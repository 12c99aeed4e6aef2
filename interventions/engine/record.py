"""Data between the client and the server: named fields there and back, tensors of integers as few bytes.

What opens it travels by value and names torch and built-ins only. Dataclasses stay here: a server that runs
another Python could not load their generated methods, so over there a record has the same fields and no class.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor


class Record:
    """Named fields, whatever they are."""

    def __init__(self, **fields: Any):
        for name, value in fields.items():
            setattr(self, name, value)


def fields_of(record: Any) -> dict[str, Any]:
    """Fields of a dataclass or a Record by name."""
    return {f.name: getattr(record, f.name) for f in fields(record)} if is_dataclass(record) else vars(record)


_INTEGERS = (("int8", torch.int8), ("int16", torch.int16), ("int32", torch.int32), ("int64", torch.int64))


def sealed(value: Any) -> Any:
    """The value as plain data: dataclasses and Records, containers, numbers, texts, and tensors on the CPU."""
    if is_dataclass(value) or isinstance(value, Record):
        return ("record", {name: sealed(each) for name, each in fields_of(value).items()})
    if isinstance(value, Tensor):
        return _sealed_tensor(value)
    if isinstance(value, dict):
        return ("dict", [(key, sealed(each)) for key, each in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [sealed(each) for each in value])
    return ("value", value)


def _sealed_tensor(value: Tensor) -> tuple:
    """Integers as differences: columns, rows and positions mostly count up, and equal bytes compress."""
    shape = tuple(value.shape)
    flat = value.detach().reshape(-1)
    if flat.is_floating_point():
        return ("floats", shape, flat.float().numpy().tobytes())
    steps = torch.diff(flat.long(), prepend=torch.zeros(1, dtype=torch.long)) if len(flat) else flat.long()
    most = int(steps.abs().max()) if len(steps) else 0
    name, kind = next((name, kind) for name, kind in _INTEGERS if most <= torch.iinfo(kind).max)
    return ("integers", shape, name, steps.to(kind).numpy().tobytes())


def opened(value: Any, device: Any) -> Any:
    """What was sealed, its tensors on ``device``: integers int64, others float32."""
    kind = value[0]
    if kind == "record":
        return Record(**{name: opened(each, device) for name, each in value[1].items()})
    if kind == "dict":
        return {key: opened(each, device) for key, each in value[1]}
    if kind == "list":
        return [opened(each, device) for each in value[1]]
    if kind == "tuple":
        return tuple([opened(each, device) for each in value[1]])
    if kind == "floats":
        tensor = torch.frombuffer(bytearray(value[2]), dtype=torch.float32) if value[2] else torch.zeros(0)
        return tensor.reshape(value[1]).to(device)
    if kind == "integers":
        kinds = {"int8": torch.int8, "int16": torch.int16, "int32": torch.int32, "int64": torch.int64}
        steps = torch.frombuffer(bytearray(value[3]), dtype=kinds[value[2]]) if value[3] else torch.zeros(0)
        return steps.long().cumsum(0).reshape(value[1]).to(device)
    return value[1]
