"""Commented specs to start from, one file a recipe, as `patchboard init` writes them out."""

from __future__ import annotations

import json
import shlex
from importlib.resources import files
from pathlib import Path

from patchboard.errors import SpecError
from patchboard.registry import suggest

FOLDER = files("patchboard.recipes")
EXAMPLES = "example_pairs"
"""Folder of data that a recipe names; it is written beside the spec, and the spec names it there."""


def recipes() -> dict[str, str]:
    """Name -> what it is about, the file's first line."""
    file_of = {path.name.removesuffix(".yaml"): path for path in FOLDER.iterdir() if path.name.endswith(".yaml")}
    return {
        name: file_of[name].read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for name in sorted(file_of)
    }


def listing() -> str:
    """A line for each recipe."""
    return "\n".join(f"{name:<12} {about}" for name, about in recipes().items())


def written(name: str | None, out: Path | None) -> str:
    """Write the recipe's spec to ``out`` (default: NAME.yaml here), and the data that it names; returns what to tell.

    Raises SpecError for an unknown recipe, and where a file is there already: nothing is written then.
    """
    if name is None:
        raise SpecError("--out", "was given without a recipe", f"name one of {', '.join(recipes())}")
    if name not in recipes():
        raise SpecError("RECIPE", f"unknown recipe '{name}'", suggest(name, recipes()))
    spec = out or Path(f"{name}.yaml")
    texts = _texts(name, spec)
    for path in texts:
        if path.exists():
            raise SpecError(str(path), "is there already, and nothing is overwritten", "name another file with --out")
    for path, content in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        except OSError as error:
            what = f"cannot be written ({error.strerror})"
            raise SpecError(str(path), what, "name another file with --out") from None
    arguments = shlex.quote(str(spec)) + (" --remote" if name == "remote" else "")
    return "\n".join(
        [*(f"wrote {path}" for path in texts), f"next: patchboard plan {arguments}, then patchboard run {arguments}"]
    )


def _texts(name: str, spec: Path) -> dict[Path, str]:
    """The spec, and the data that it names beside it."""
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    if f"{EXAMPLES}/" not in text:
        return {spec: text}
    beside = spec.parent / EXAMPLES
    quoted = json.dumps(beside.as_posix(), ensure_ascii=False)[1:-1]  # the spec has it in double quotes
    data = {beside / each.name: each.read_text(encoding="utf-8") for each in (FOLDER / EXAMPLES).iterdir()}
    return {spec: text.replace(f"{EXAMPLES}/", f"{quoted}/"), **data}
