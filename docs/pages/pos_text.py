"""Parts of speech in real text: what of UD English EWT is kept, and what pretrained models do with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages import pretrained
from pages.frame import Run

TREEBANK = "data/en_ewt.conllu"
"""The treebank's dev and test parts, one after the other: it is not shipped."""

ARGUMENTS = (
    "experiments/specs/pos_text.yaml", "--tasks.source=treebank", f"--tasks.treebank={TREEBANK}",
    "--prompts.queries=30", "--decodability.prompts=60", "--decodability.shots=[0, 1, 4]", "--decodability.twin=true",
)  # fmt: skip

RUNS = {
    "smollm2_pos": Run("patch_sweep", *ARGUMENTS, "--model=smollm2-135m", needs=("smollm2-135m", TREEBANK)),
    "gemma3_pos": Run("patch_sweep", *ARGUMENTS, "--model=gemma3-270m", needs=("gemma3-270m", TREEBANK)),
}

FIGURES = {
    f"pos_text_{model}_{picture}.png": (f"{model}_pos", f"figures/{picture}.png")
    for model in pretrained.MODELS
    for picture in ("effect-accuracy", "cd-floors")
}


def values(name: str, folder: Path) -> dict[str, Any]:
    return pretrained.values(folder)
