"""YAML 1.2 text to and from plain data: mappings, lists, text, numbers, true/false, null."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from patchboard.errors import SpecError
from patchboard.spec.paths import FieldPath, format_path
from patchboard.spec.refusal import InvalidValue
from patchboard.spec.values import shown


class _Plain(SafeConstructor):
    """Dates stay text (a model's revision may look like one), and so do a lone ``=`` and ``<<``."""


for _tag in ("timestamp", "value", "merge"):
    _Plain.add_constructor(f"tag:yaml.org,2002:{_tag}", SafeConstructor.construct_yaml_str)


class _PlainOrNone(_Plain):
    """Reads an unquoted ``None`` as null: that is how W&B's agent writes it."""

    def construct_yaml_str(self, node: ScalarNode) -> str | None:
        return None if node.style is None and node.value == "None" else super().construct_yaml_str(node)


_PlainOrNone.add_constructor("tag:yaml.org,2002:str", _PlainOrNone.construct_yaml_str)


def read_yaml(text: str, where: str) -> Any:
    """The one document in ``text`` as plain data.

    Raises SpecError at ``where:line`` for what is not YAML or gives a key twice, and at the field for
    what is YAML but not plain data (tags, keys that are not text, infinite numbers).
    """
    return plain_at(parse_yaml(text, where), where)


def plain_at(tree: Any, where: str) -> Any:
    """``tree`` as plain data. Raises SpecError at the field, or at ``where``, for what is none."""
    try:
        return plain(tree)
    except InvalidValue as refusal:
        raise SpecError(format_path(refusal.at) or where, refusal.what, refusal.remedy) from None


def parse_yaml(text: str, where: str, none_is_null: bool = False) -> Any:
    """The one document in ``text`` as YAML has it, for ``plain`` to check. Raises SpecError at ``where:line``.

    none_is_null: read an unquoted ``None`` as null.
    """
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = _PlainOrNone if none_is_null else _Plain
    try:
        return reader.load(text)
    except DuplicateKeyError as error:
        key = str(error.problem).split('"')[1]
        raise SpecError(_line(where, error), f"the key '{key}' is given twice", "keep one") from None
    except MarkedYAMLError as error:
        raise SpecError(_line(where, error), f"is no YAML ({error.problem})", _remedy(error, text)) from None
    except YAMLError as error:
        problem = str(error).splitlines()[0]
        raise SpecError(where, f"is no YAML ({problem})", "save it as plain UTF-8 text") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # ruamel lets these through where a tag does not fit its value, as in `!!int four`
        what = f"a tag does not fit its value ({error})"
        raise SpecError(where, what, "write plain values without !! tags") from None
    except RecursionError:
        raise SpecError(where, "is nested too deeply to be read", "write it flatter") from None


def _line(where: str, error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"{where}:{mark.line + 1}" if mark else where


def _remedy(error: MarkedYAMLError, text: str) -> str:
    problem = str(error.problem)
    if "'\\t'" in problem:
        return "indent with spaces, not tabs"
    if "another document" in problem:
        return "write one document a file"
    if "mapping values are not allowed" in problem:
        return "put text that holds ': ' in quotes, and check the indentation"
    if "cannot start any token" in problem or "alias" in problem or "found ':'" in problem:
        return "put the text in quotes"
    return "mend this line or the one before it"


def plain(tree: Any, path: FieldPath = (), above: tuple[int, ...] = ()) -> Any:
    """A copy of ``tree`` that shares nothing with it. Raises InvalidValue for anything but plain data."""
    if isinstance(tree, Mapping | list | tuple):
        if id(tree) in above:
            raise InvalidValue("holds itself through an alias", "write the value out", path)
        above = (*above, id(tree))
    if isinstance(tree, Mapping):
        for key in tree:
            # dots and brackets would make two different paths read alike
            if not isinstance(key, str) or not key or set(key) & set(".[]"):
                what = f"the key {key!r} is no field's name, expected text without '.', '[' and ']'"
                raise InvalidValue(what, "rename it", path)
        return {key: plain(value, (*path, key), above) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value, (*path, i), above) for i, value in enumerate(tree)]
    if isinstance(tree, float) and not math.isfinite(tree):
        raise InvalidValue(f"found {tree}, expected a finite number", "write a number", path)
    if tree is None or type(tree) in (str, int, float, bool):
        return tree
    raise InvalidValue(f"found {shown(tree)}, expected plain data", "write text, numbers, lists or mappings", path)


class _Exact(SafeRepresenter):
    """Quotes text that holds more than words.

    Left to itself ruamel.yaml folds U+0085 and U+2028 as line breaks, and writes ``{together: :4}``,
    which it cannot read. Quotes also keep readers of YAML 1.1 from taking 0:80:4 for a number of base 60.
    """

    def represent_str(self, data: str) -> ScalarNode:
        style = None if re.fullmatch(r"[\w ./-]*", data, re.ASCII) else "'" if data.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Exact.add_representer(str, _Exact.represent_str)


def dump_yaml(tree: Any) -> str:
    """``tree`` as YAML text, short lists and mappings on one line; ``read_yaml`` gives the same back."""
    writer = YAML(typ="safe", pure=True)
    writer.Representer = _Exact
    writer.default_flow_style = None
    # the order of keys is the order of the axes
    writer.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    writer.width = 110
    writer.allow_unicode = True
    out = io.StringIO()
    writer.dump(tree, out)
    return out.getvalue()
