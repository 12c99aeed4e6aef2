"""GGUF files (llama.cpp's format) as models, read and dequantised by transformers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from patchboard.engine.source import is_gguf, source_of
from patchboard.errors import ModelError
from patchboard.extras import require_extra
from patchboard.spec.sections import ModelSection
from patchboard.tasks.files import sha256_of

Stamp = tuple[int, int]
"""Size and time of change."""

_GPT2_SPLITS = ("default", "gpt-2", "gpt2", "olmo", "phi-2", "mpt", "smollm")
"""Kinds of byte-level tokenizers that split text as GPT-2's does, which is what transformers takes for a kind that it
does not know. (smollm's splits digits too, but it has no token of several digits.)"""


def path_of(section: ModelSection) -> Path | None:
    """The file, None for a model of another form. Raises ModelError where there is no such file."""
    if not is_gguf(section):
        return None
    folder, place = source_of(section)
    return Path(folder) / place["gguf_file"] if "gguf_file" in place else None


def stamp_of(section: ModelSection) -> Stamp | None:
    path = path_of(section)
    return None if path is None else (path.stat().st_size, path.stat().st_mtime_ns)


def files(section: ModelSection) -> dict[str, str]:
    path = path_of(section)
    return {} if path is None else {str(path): sha256_of(path)}


def plain_weights() -> dict[str, Any]:
    """For ``from_pretrained``: all weights unpacked, whether or not kernels for packed ones are installed."""
    from transformers.utils.quantization_config import GgufConfig

    return {"quantization_config": GgufConfig(dequantize=True)}


def metadata(path: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Entries (of arrays: their lengths) and names of tensors."""
    from transformers.integrations.gguf.reader import read_gguf_metadata

    return read_gguf_metadata(str(path))


def check_file(section: ModelSection) -> None:
    """Raises ModelError for what is no GGUF file or only a part of a model, and where their reader is missing."""
    path = path_of(section)
    assert path is not None
    require_extra("gguf", ModelError, "model.name", f"'{path}'")
    try:
        entries, _ = metadata(path)
    except Exception as error:  # cut short, another version, another format
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError("model.name", f"'{path}' cannot be read as GGUF ({first})", "fetch the file again") from error
    if entries.get("split.count", 1) > 1:
        what = f"'{path}' is one of {entries['split.count']} parts of a model"
        raise ModelError("model.name", what, "join them: llama-gguf-split --merge FIRST OUT.gguf")


def notes(section: ModelSection) -> Iterator[str]:
    """What is to be told of the model before it runs."""
    path = path_of(section)
    if path is None:
        return
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    entries, _ = metadata(path)
    kind = entries.get("tokenizer.ggml.pre", "default")
    if entries.get("tokenizer.ggml.model") == "gpt2" and kind not in (*GGUF_PRE_TOKENIZER_SPLITS, *_GPT2_SPLITS):
        yield (
            f"{path.name}: transformers does not know how its tokenizer ('{kind}') splits text before merging and takes"
            " GPT-2's way; look at --show-tokens"
        )
