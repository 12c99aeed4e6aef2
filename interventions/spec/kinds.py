"""Which of our YAML files a tree is: a run's spec, an experiment's settings, a sweep; and what takes each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from patchboard.errors import SpecError
from patchboard.registry import suggest
from patchboard.spec.values import shown

FileKind = Literal["run", "sweep", "finetune", "hijack", "synthetic"]

EXPERIMENTS: tuple[FileKind, ...] = ("finetune", "hijack", "synthetic")
"""Those with settings of their own, each read by the script of that name; all other scripts take a run's spec."""

WHAT: dict[FileKind, tuple[str, str]] = {
    "run": ("a run's spec", "patchboard run, or experiments/patch_sweep.py"),
    "sweep": ("a W&B sweep", "patchboard sweep, or wandb sweep"),
    **{name: (f"the settings of experiments/{name}.py", f"experiments/{name}.py") for name in EXPERIMENTS},
}
"""FileKind -> (what such a file holds, what takes it)."""


def kind_of(tree: Any, where: str) -> FileKind:
    """Told by keys that no other kind has; what has none of them is taken for a run's spec.

    Raises SpecError at ``where: experiment`` for an experiment that there is not.
    """
    if not isinstance(tree, Mapping):
        return "run"
    if "experiment" in tree:
        named = tree["experiment"]
        kind: FileKind | None = next((name for name in EXPERIMENTS if name == named), None)
        if kind is None:
            expected = f"found {shown(named)}, expected {' or '.join(EXPERIMENTS)}"
            raise SpecError(f"{where}: experiment", expected, suggest(str(named), EXPERIMENTS))
        return kind
    if "data" in tree and "training" in tree:
        return "synthetic"
    return "sweep" if "program" in tree or {"method", "parameters"} <= set(tree) else "run"


def refuse_other_kind(tree: Any, wanted: FileKind, where: str) -> None:
    """Raises SpecError at ``where`` for a file of another kind, with what takes it."""
    kind = kind_of(tree, where)
    if kind != wanted:
        holds, taker = WHAT[kind]
        raise SpecError(where, f"holds {holds}, expected {WHAT[wanted][0]}", f"give it to {taker}")
