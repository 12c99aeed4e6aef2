"""What transformers and its readers raise, said in one line: what was found, and what to do about it."""

from __future__ import annotations

import json
import re
import shlex
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from patchboard.errors import ModelError
from patchboard.spec.sections import ModelSection

_POINTER = b"version https://git-lfs"
RETRY = "check the network, then the same command"
_WHOLE = "check that the folder's files are whole"


def explained(error: Exception, section: ModelSection, source: str, what: str) -> ModelError:
    """The error to raise in place of ``error``, which came of loading ``what`` (configuration, tokenizer, weights)."""
    first = _first_line(error)
    local = Path(source).is_dir()
    finding, remedy = (
        known(error, source, what)
        or (_in_folder(error, Path(source), first, what) if local else None)
        or (
            f"no {what} could be loaded from '{section.name}' ({first})",
            f"the folder is loaded as transformers {version('transformers')} does: see that it can load it"
            if local
            else "check the name, the network and (for gated models) `hf auth login`",
        )
    )
    return ModelError("model.name", finding, remedy)


Told = tuple[str, str]
"""What was finding, and its remedy."""


def known(error: BaseException | None, source: str, what: str) -> Told | None:
    """Of an error that comes of what the model is or of what this machine lacks, wherever its files lie."""
    if error is None:
        return None
    text, first = str(error).strip(), _first_line(error)
    return (
        _custom_code(text, what)
        or _unknown_type(text, source)
        or _missing_package(error, text, first, what)
        or _no_memory(error, what)
        or _needs_gpu(text, first, what)
    )


def _first_line(error: BaseException) -> str:
    return " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())


def _custom_code(text: str, what: str) -> Told | None:
    if "trust_remote_code" not in text:
        return None
    what_is_wrong = f"its {what} is Python code of its own, which is not run unasked"
    return what_is_wrong, "read that code; --trust-remote-code then lets it run in this process"


def _unknown_type(text: str, source: str) -> Told | None:
    named = re.search(r"model type `([^`]*)`", text)
    if named:
        ours = f"transformers {version('transformers')}"
        remedy = "use a model of a family that `patchboard ls` lists; a newer transformers may know it"
        return f"its model_type '{named[1]}' is unknown to {ours}", remedy
    if "Unrecognized model in" in text or "should have a `model_type` key" in text.lower():
        return f"the config.json of '{source}' names no model_type", "give the config.json that belongs to the model"
    return None


def _missing_package(error: BaseException, text: str, first: str, what: str) -> Told | None:
    """Packages that only some models need: quantised weights, attention kernels, tokenizers of older kinds."""
    unmet = isinstance(error, ImportError) or re.search(r"pip install|is not installed|not installed", text)
    if not unmet:
        return None
    what_is_wrong = f"loading its {what} needs a package that is not installed here ({_shortened(first)})"
    if re.search(r"flash.?att", text, re.IGNORECASE):
        return what_is_wrong, 'write "attn_implementation": "sdpa" into its config.json (packing needs sdpa or eager)'
    command = re.search(r"pip3? install ([^`'\"\n]+)", text)
    name = command[1].strip().rstrip(".") if command else _package_of(text)
    # quoted: a shell would take the > of a version for a file to write to
    return what_is_wrong, f"pip install {shlex.join(name.split())}" if name else "install it"


_PACKAGES = {
    "bitsandbytes": "bitsandbytes", "optimum": "optimum gptqmodel", "gptq": "optimum gptqmodel", "awq": "gptqmodel",
    "compressed": "compressed-tensors", "hqq": "hqq", "quanto": "optimum-quanto", "torchao": "torchao",
    "sentencepiece": "sentencepiece", "tiktoken": "tiktoken", "mistral_common": "mistral-common",
    "protobuf": "protobuf",
}  # fmt: skip
"""A word of an error -> what to install."""


def _package_of(text: str) -> str:
    return next((package for word, package in _PACKAGES.items() if word in text.lower()), "")


def _shortened(line: str, longest: int = 160) -> str:
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _no_memory(error: BaseException, what: str) -> Told | None:
    short = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    remedy = "set model.dtype: bfloat16, or use a machine with more memory"
    return (f"its {what} do not fit into memory", remedy) if short else None


def _needs_gpu(text: str, first: str, what: str) -> Told | None:
    if not re.search(r"(requires?|need(s|ed)?|No) (a |an )?(CUDA |\w+ )?(GPU|accelerator|XPU)|GPU is needed", text):
        return None
    return f"its {what} need a GPU ({_shortened(first)})", "run where there is one, or give an unquantised checkpoint"


def _in_folder(error: Exception, folder: Path, first: str, what: str) -> Told | None:
    pointers = [file.name for file in sorted(folder.iterdir()) if _is_pointer(file)]
    if pointers:
        what_is_wrong = f"{pointers[0]} of '{folder}' is a Git LFS pointer, not the file itself"
        return what_is_wrong, "fetch the files: git lfs pull"
    if "no file named" in str(error) and what == "weights":
        return f"the folder '{folder}' has no weights ({_shortened(first)})", "add model.safetensors"
    if what == "tokenizer" and not list(folder.glob("*token*")) and not list(folder.glob("vocab*")):
        remedy = "save the model's tokenizer into it (AutoTokenizer.from_pretrained(…).save_pretrained(FOLDER))"
        return f"the folder '{folder}' has no tokenizer", remedy
    if _is_damage(error):
        return f"no {what} could be loaded from '{folder}' ({_shortened(first)})", _WHOLE
    return None


def _is_pointer(file: Path) -> bool:
    if not file.is_file() or file.stat().st_size > 1024:
        return False
    return file.read_bytes().startswith(_POINTER)


def _is_damage(error: Any) -> bool:
    """Errors of readers: of JSON, safetensors, torch's archives, tokenizers (whose class is Exception itself)."""
    readers = (json.JSONDecodeError, UnpicklingError, EOFError, UnicodeDecodeError)
    text = str(error)
    words = ("valid JSON", "PytorchStreamReader", "zip archive", "corrupt", "truncated", "deserializ", "magic")
    return (
        isinstance(error, readers)
        or type(error).__name__ == "SafetensorError"
        or type(error) is Exception
        or any(word in text for word in words)
    )
