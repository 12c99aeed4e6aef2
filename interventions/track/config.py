"""What a W&B run is configured by: the resolved spec, nested under ``spec`` and flat by dotted path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from patchboard.spec.axes import is_sweep


def config_of(tree: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """``{"prompts.shots": 4, …, "spec": {"prompts": {"shots": 4}}, "digest": …}``.

    The dotted paths are those of ``--a.b=value``, so they are the names of a sweep's parameters too. A field
    that is swept within the run holds the list of its values.
    """
    return {**dict(_flat(tree, "")), "spec": tree, "digest": digest}


def _flat(node: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        path = f"{above}{key}"
        if is_sweep(value):
            yield path, value["sweep"]
        elif isinstance(value, Mapping) and value:
            yield from _flat(value, path + ".")
        else:
            yield path, value
