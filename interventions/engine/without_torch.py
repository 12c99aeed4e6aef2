"""transformers without torch, for processes that do nothing but plan: most of such a process was importing torch."""

from __future__ import annotations

import os
import sys
from typing import Any

from patchboard.engine.source import is_gguf
from patchboard.engine.trust import code_is_trusted
from patchboard.engine.unpacked import is_unpacked
from patchboard.spec.sections import ModelSection


def needs_torch(section: ModelSection) -> bool:
    """Whether opening the model's configuration and tokenizer asks for torch: transformers reads GGUF files with it,
    peft's adapters need it, and a model's own code may."""
    packed = section.packaged is not None and not is_unpacked(section.packaged)
    return is_gguf(section) or packed or section.adapter is not None or code_is_trusted()


def import_transformers_alone() -> None:
    """Import transformers as if torch were not installed: configurations and tokenizers are there, models are not.

    It looks for torch once and keeps the answer, so only a process that ends with its plan may ask for this. Where one
    of them is imported already, nothing happens.
    """
    if {"torch", "transformers"} & sys.modules.keys():
        return
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it would tell that torch was not found
    modules: dict[str, Any] = sys.modules  # pyright: ignore[reportAssignmentType]
    modules["torch"] = None  # Python's own way to say that a module is not to be had
    try:
        from transformers.utils.import_utils import is_torch_available

        is_torch_available()
    finally:
        del modules["torch"]
