"""Libraries that only some runs need (`pip install "patchboard[adapters]"`), asked for before they are used."""

from __future__ import annotations

import importlib.util

from patchboard.errors import PatchboardError

LIBRARIES = {
    "adapters": "peft",
    "bayes": "optuna",
    "gemma3": "gguf",
    "gguf": "gguf",
    "quantization": "bitsandbytes",
    "slurm": "submitit",
    "smollm2": "gguf",
    "treebanks": "conllu",
    "umap": "umap",
}
"""Extra, as pyproject.toml names it -> the module that it brings."""


def require_extra(extra: str, error: type[PatchboardError], where: str, what: str) -> None:
    """Raises ``error`` at ``where`` where the extra's library is not installed. what: that needs it."""
    module = LIBRARIES[extra]
    if importlib.util.find_spec(module) is None:
        missing = f"{what} needs the package {module}, which is not installed here"
        raise error(where, missing, f"pip install 'patchboard[{extra}]'")
