"""What a model's numbers come from: the commit that a revision names, or the contents of its files."""

from __future__ import annotations

from pathlib import Path

from patchboard.engine import adapter, gguf
from patchboard.engine.in_memory import loaded_model
from patchboard.engine.source import source_of
from patchboard.engine.unpacked import check_had
from patchboard.errors import ModelError
from patchboard.hub import commit_of
from patchboard.spec.sections import ModelSection
from patchboard.tasks.files import sha256_of

_WEIGHTS = ("model*.safetensors", "*.safetensors", "pytorch_model*.bin", "*.bin")
"""Names of weight files; transformers reads those of the first kind that a folder has."""
_BESIDE = (
    "config.json", "*.index.json", "tokenizer*", "*.model", "*.tiktoken", "vocab*", "merges.txt", "added_tokens.json",
    "special_tokens_map.json", "*.py",
)  # fmt: skip
"""What else numbers depend on: configuration, tokenizer, and code of the model's own."""


def contents_of(section: ModelSection) -> dict[str, str]:
    """``commit`` of a Hub model, else its files with their sha256; an adapter's files likewise. Of a packaged model the
    sha256 of its GGUF file, of a model in memory that of its weights, configuration and tokenizer.

    Without ``commit`` where the Hub is silent and its cache knows no such revision. Raises ModelError for a name or
    an adapter that nothing is behind.
    """
    held = loaded_model(section)
    if held is not None:
        return dict(held.contents)
    source, place = source_of(section)
    if section.packaged is not None:
        check_had(section.packaged)
        own = section.packaged.contents  # what is unpacked of another file, or is altered since, is never loaded
    elif "revision" in place:
        commit = commit_of(source, section.revision)
        own = {} if commit is None else {"commit": commit}
    else:
        own = gguf.files(section) if "gguf_file" in place else _files(Path(source))
    return own | adapter.files(section)


def check_commit(section: ModelSection, noted: str | None, loaded: str | None) -> None:
    """Raises ModelError where a branch has moved between the look-up of its commit and the model's loading.

    loaded: the commit that transformers has loaded, None where it does not tell.
    """
    if noted and loaded and noted != loaded:
        what = f"{section.revision} of {section.name} moved from {noted[:12]} to {loaded[:12]} while it was loaded"
        raise ModelError("model.revision", what, "give the same command again, or the commit itself")


def _files(folder: Path) -> dict[str, str]:
    weights = next((files for pattern in _WEIGHTS if (files := sorted(folder.glob(pattern)))), [])
    beside = {file for pattern in _BESIDE for file in folder.glob(pattern) if file.is_file()}
    return {file.name: sha256_of(file) for file in sorted({*weights, *beside})}
