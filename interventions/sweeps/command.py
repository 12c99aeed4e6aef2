"""The command line of a point, as W&B's agent would write it, but for values that would be read back as others."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from patchboard.errors import SpecError
from patchboard.spec.axes import Tree
from patchboard.spec.fields import kinds_at
from patchboard.spec.paths import split_path
from patchboard.spec.refusal import InvalidValue
from patchboard.spec.sections import Spec
from patchboard.spec.values import shown
from patchboard.spec.yaml_text import dump_yaml, parse_yaml, plain

MACROS = ("${env}", "${interpreter}", "${program}", "${args}", "${args_no_boolean_flags}")
"""The items of a sweep's ``command`` that stand for others. Each must be an item of its own."""

OTHER_FORMS = {
    "${args_no_hyphens}": "PATH=VALUE",
    "${args_no_equals}": "--PATH VALUE",
    "${args_json}": "JSON",
    "${args_json_file}": "the path of a JSON file",
    "${args_append_hydra}": "+PATH=VALUE",
    "${args_override_hydra}": "++PATH=VALUE",
}
"""W&B's other macros -> what they write, which no command line of ours reads."""

WRITERS: tuple[Callable[[Any], str], ...] = (str, lambda value: json.dumps(value, ensure_ascii=False), dump_yaml)
"""W&B's own way first: the text '1e-3' needs quotes, and a line break within a list another escape."""


def command_of(
    command: Sequence[str], program: str, parameters: Mapping[str, Any], out: Path, figures: Sequence[str] = ()
) -> list[str]:
    """``command`` with its macros filled in, and behind it the point's run folder and the formats of its figures.

    ``${interpreter}`` is this Python where W&B takes ``python`` from PATH. Both macros of arguments write the same:
    files in which ``${args_no_boolean_flags}`` would write something else are not loaded.
    """
    arguments = [argument(name, value) for name, value in parameters.items()]
    filled: dict[str, list[str]] = {
        "${env}": ["/usr/bin/env"],
        "${interpreter}": [sys.executable],
        "${program}": [program],
        "${args}": arguments,
        "${args_no_boolean_flags}": arguments,
    }
    told = [f"--out={out}", *([f"--figures={','.join(figures)}"] if figures else [])]
    return [*(word for item in command for word in filled.get(item, [item])), *told]


def argument(name: str, value: Any) -> str:
    """``--name=value``, written so that our command line reads just this value. Raises SpecError where it cannot be.

    A flag's value (``--model=123``) is text as it stands; a path's is YAML.
    """
    if name == "model" or not kinds_at(Spec, split_path(name)[:1]):
        return f"--{name}={value}"
    for write in WRITERS:
        text = write(value)
        if "\0" not in text and _same(_read(text), value):
            return f"--{name}={text}"
    raise SpecError(f"parameters.{name}", f"{shown(value)} cannot stand on a command line", "write another value")


def _read(text: str) -> Any:
    """The value that an override of this text has; a value that no parameter has where it is none."""
    try:
        return plain(parse_yaml(text, "value", none_is_null=True))
    except (SpecError, InvalidValue):
        return ...


def _same(read: Any, value: Tree | Any) -> bool:
    """By type as well: 1, 1.0 and true differ."""
    return read is not ... and json.dumps(read, sort_keys=True) == json.dumps(value, sort_keys=True)
