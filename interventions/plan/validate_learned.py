"""Does a vector that is learned mean something, with these rows and this op?"""

from __future__ import annotations

from collections.abc import Sequence

from patchboard.errors import SpecError
from patchboard.registry import suggest
from patchboard.spec.edits import EditSection
from patchboard.spec.sections import Spec
from patchboard.spec.vectors import VectorSection
from patchboard.tasks.base import NULL


def check_learned(
    edit: EditSection, vector: VectorSection, sources: Sequence[str], tasks: Sequence[str], where: str
) -> None:
    """Raises SpecError for a source without an answer to learn, and for an op that it is not learned for.

    sources: of the rows. where: of the edit."""
    real = [task for task in tasks if task != NULL]
    at = f"{where}.vector.{vector.kind}"
    if vector.steer is not None:
        if edit.op != "add":
            raise SpecError(
                f"{where}.op", f"found {edit.op}, and a steer vector is learned to be added", "write op: add"
            )
        if vector.steer in ("all_tasks", "null_task", NULL):
            what = f"found {vector.steer}, and it is learned to bring the answers of one task"
            raise SpecError(at, what, "write same_task, other_task or a task's name")
        return
    if vector.das not in ("other_task", *sources):
        what = f"found {vector.das}, expected whose prompts the pairs are with: other_task, or a source of the rows"
        raise SpecError(at, what, suggest(str(vector.das), ("other_task", *sources)))
    if vector.das == "other_task" and vector.das not in sources and len(real) < 2:
        raise SpecError(at, "other_task needs two tasks, the family gives one", "add tasks")


def check_uncorrupted(vector: VectorSection, spec: Spec, where: str) -> None:
    """Raises SpecError for das where the evaluated prompts are corrupted ones: fit prompts are rows as they were, and
    have other sources."""
    if vector.das is not None and spec.prompts.corrupted is not None:
        what = f"is learned on rows as they were, and prompts.corrupted is {spec.prompts.corrupted}"
        raise SpecError(f"{where}.vector.das", what, "leave prompts.corrupted out")
