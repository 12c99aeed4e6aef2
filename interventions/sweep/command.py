"""The command line of a point, as W&B's agent would write it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MACROS = (
    "${env}", "${interpreter}", "${program}", "${args}", "${args_no_boolean_flags}", "${args_no_hyphens}",
    "${args_no_equals}",
)  # fmt: skip
"""The items of a sweep's ``command`` that stand for others. Each must be an item of its own."""


def command_of(command: Sequence[str], program: str, parameters: Mapping[str, Any], out: Path) -> list[str]:
    """``command`` with its macros filled in, and the point's run folder behind it.

    ``${interpreter}`` is this Python where W&B takes ``python`` from PATH. Values are written as W&B writes them,
    ``str(value)``: the spec reads ``True``, ``None`` and ``['a', 'b']`` as YAML does.
    """
    pairs = {name: f"{name}={value}" for name, value in parameters.items()}
    filled: dict[str, list[str]] = {
        "${env}": ["/usr/bin/env"],
        "${interpreter}": [sys.executable],
        "${program}": [program],
        "${args}": [f"--{pair}" for pair in pairs.values()],
        "${args_no_hyphens}": list(pairs.values()),
        "${args_no_equals}": [word for name, value in parameters.items() for word in (f"--{name}", str(value))],
        "${args_no_boolean_flags}": [
            f"--{name}" if value is True else f"--{pairs[name]}"
            for name, value in parameters.items()
            if value is not False
        ],
    }
    return [word for item in command for word in filled.get(item, [item])] + [f"--out={out}"]
