"""A spec file, or its text -> Study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interventions.errors import SpecError
from interventions.registry import suggest
from interventions.spec.axes import Study
from interventions.spec.study import study_of
from interventions.spec.values import shown
from interventions.spec.yaml_text import read_yaml


def load_study(path_or_text: Path | str, overrides: Mapping[str, Any] | None = None, where: str | None = None) -> Study:
    """The study that a YAML file describes, or a text of several lines (or one in braces).

    overrides: path -> value, as ``parse_overrides`` gives them.
    where: what YAML errors call the source; the file's path by default.
    Raises SpecError, always one line: ``file:line`` for what is no YAML, else the field's path.
    """
    if isinstance(path_or_text, str) and _is_text(path_or_text):
        text, where = path_or_text, where or "spec"
    else:
        where = where or str(path_or_text)
        text = _text(Path(path_or_text), where)
    tree = read_yaml(text, where)
    if not isinstance(tree, dict):
        remedy = "see docs/spec.md for an example"
        raise SpecError(where, f"holds {shown(tree)}, expected a mapping", remedy)
    return study_of(tree, overrides)


def _is_text(source: str) -> bool:
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
