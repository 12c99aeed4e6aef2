"""A spec file, or its text -> Study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patchboard.errors import SpecError
from patchboard.registry import suggest
from patchboard.spec.axes import Study
from patchboard.spec.kinds import refuse_other_kind
from patchboard.spec.study import study_of
from patchboard.spec.values import shown
from patchboard.spec.yaml_text import parse_yaml, plain_at


def load_study(
    path_or_text: Path | str,
    overrides: Mapping[str, Any] | None = None,
    where: str | None = None,
) -> Study:
    """The study that a YAML file describes, or a text of several lines (or one in braces).

    overrides: path -> value, as ``parse_overrides`` gives them.
    where: what YAML errors call the source; the file's path by default.
    Raises SpecError, always one line: ``file:line`` for what is no YAML, else the field's path; PluginError.
    """
    folder = Path()
    if isinstance(path_or_text, str) and is_text(path_or_text):
        where = where or "spec"
        tree = _mapping(path_or_text, where)
    else:
        where = where or str(path_or_text)
        folder = Path(path_or_text).parent
        tree = load_tree(Path(path_or_text), where)
    return study_of_tree(tree, where, folder, overrides)


def study_of_tree(
    tree: Mapping[str, Any], where: str, folder: Path, overrides: Mapping[str, Any] | None = None
) -> Study:
    """The study of a mapping that ``load_tree`` has read from a file in ``folder``; raises as ``load_study``."""
    refuse_other_kind(tree, "run", where)
    return study_of(plain_at(tree, where), overrides, folder)


def load_tree(file: Path, where: str) -> Mapping[str, Any]:
    """The mapping in a YAML file of ours, of whatever kind, as YAML has it. Raises SpecError as ``parse_yaml``."""
    return _mapping(_text(file, where), where)


def _mapping(text: str, where: str) -> Mapping[str, Any]:
    tree = parse_yaml(text, where)
    if not isinstance(tree, Mapping):
        remedy = "see docs/spec.md for an example"
        raise SpecError(where, f"holds {shown(tree)}, expected a mapping", remedy)
    return tree


def is_text(source: str) -> bool:
    """Whether the source is a spec itself, and no path of one."""
    return "\n" in source or source.lstrip().startswith("{") or not source.strip()


def _text(file: Path, where: str) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        beside = [p.name for pattern in ("*.yaml", "*.yml") for p in file.parent.glob(pattern)]
        near = suggest(file.name, beside)
        remedy = near if near.startswith("did you mean") else "give the path of a YAML spec"
        raise SpecError(where, "there is no such file", remedy) from None
    except UnicodeDecodeError as error:
        raise SpecError(where, f"is not UTF-8 (byte {error.start})", "save it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SpecError(where, f"cannot be read ({reason})", "give the path of a YAML spec") from None
