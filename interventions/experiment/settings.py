"""The YAML of an experiment that trains: its own sections, read, overridden and refused as a spec's are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, Field, ValidationError

from patchboard.errors import SpecError
from patchboard.registry import suggest
from patchboard.spec.digest import digest_of
from patchboard.spec.fields import kinds_at, unknown_key
from patchboard.spec.kinds import FileKind, refuse_other_kind
from patchboard.spec.paths import FieldPath, format_path, split_path
from patchboard.spec.refusal import refused_at
from patchboard.spec.section import Section
from patchboard.spec.values import shown
from patchboard.spec.wording import complaints, first_of
from patchboard.spec.yaml_text import dump_yaml, parse_yaml, plain, plain_at


class ExperimentSettings(Section):
    """The whole YAML of an experiment. kind: of it, by which files of other kinds are told."""

    kind: ClassVar[FileKind]

    if TYPE_CHECKING:  # each has it where its YAML shows it
        name: str

    @property
    def digest(self) -> str:
        return digest_of(self.model_dump())

    @property
    def yaml(self) -> str:
        return dump_yaml(self.model_dump())


ExperimentName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""Of a run's folder, which is called after it."""

Settings = TypeVar("Settings", bound=ExperimentSettings)


def load_settings(root: type[Settings], file: Path, overrides: Sequence[str] = ()) -> Settings:
    """The file's settings, with ``--a.b=value`` set in them (values read as YAML).

    Raises SpecError, always one line: ``file:line`` for what is no YAML, the file for one of another kind, the flag
    for what an override says wrongly, else the field's path.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SpecError(str(file), f"cannot be read ({reason})", "give the path of a YAML file") from None
    tree = parse_yaml(text, str(file))
    if not isinstance(tree, Mapping):
        raise SpecError(str(file), f"holds {shown(tree)}, expected a mapping", f"give {', '.join(root.model_fields)}")
    refuse_other_kind(tree, root.kind, str(file))
    tree = plain_at(tree, str(file))
    flags = dict(_placed(root, tree, override) for override in overrides)
    if len(flags) < len(overrides):
        raise SpecError("command line", "a field is given twice", "keep one")
    try:
        return root.model_validate(tree)
    except ValidationError as error:

        def where(path: FieldPath) -> str:
            return next((flag for at, flag in flags.items() if path[: len(at)] == at), format_path(path))

        raise first_of(complaints(error, root), where) from None


@contextmanager
def told_of_study() -> Iterator[None]:
    """Errors of the body name their place as the experiment's YAML has it, whose ``study`` holds a spec's sections."""
    try:
        yield
    except SpecError as error:
        raise SpecError(f"study.{error.where}", error.what, error.remedy) from None


def _placed(root: type[BaseModel], tree: dict[str, Any], override: str) -> tuple[FieldPath, str]:
    """Sets what ``override`` says in ``tree``; gives (path, flag)."""
    flag, equals, text = override.partition("=")
    if not re.fullmatch(r"--\w[\w.\-]*", flag):
        raise SpecError(flag, "is no flag, expected --path=value", "set a field as in --training.steps=100")
    path = split_path(flag.removeprefix("--"))
    node = tree
    for depth, part in enumerate(path):
        if part.isdigit():
            whole = format_path(path[:depth])
            raise SpecError(flag, f"names an entry of {whole}", f"set it whole: --{whole}=[…]")
        if not kinds_at(root, path[: depth + 1]):
            what, remedy = unknown_key(root, path[: depth + 1])
            if not depth:
                what, remedy = "is neither a flag nor a field", suggest(part, root.model_fields)
            raise SpecError(flag, what, remedy)
        if depth < len(path) - 1:
            if not isinstance(node.get(part), dict):
                node[part] = {}
            node = node[part]
    if not equals:
        raise SpecError(flag, "has no value", f"write {flag}=VALUE")
    with refused_at(flag):
        node[path[-1]] = plain(parse_yaml(text, flag, none_is_null=True))
    return path, flag
