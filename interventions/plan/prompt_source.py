"""Where a plan's prompts come from: a task family's rows as text, or something else that is a sequence of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from patchboard.tasks.prompt import Prompt
from patchboard.tasks.prompts import Prompter
from patchboard.tasks.sets import Halves, Role


class PromptSource(Protocol):
    """Prompts of some tasks. The same call gives the same prompts, and no two roles share a query."""

    @property
    def tasks(self) -> Sequence[str]:
        """Their labels, Null among them where there is one."""
        ...

    @property
    def knows_other_answers(self) -> bool:
        """Whether a query has an answer under another task, to which a vector may convert it."""
        ...

    def prompts(
        self, role: Role, tasks: Sequence[str], shots: int, count: int,
        others: Sequence[str] = (), shared: bool = False, shuffled: bool = False, asked: Sequence[int] = (),
        corrupted: str | None = None,
    ) -> Mapping[str, Sequence[Prompt]]:  # fmt: skip
        """Task -> its prompts, as ``tasks.sets.Halves.prompts`` has the arguments."""
        ...

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        ...


@dataclass(frozen=True)
class FamilyPrompts:
    """A family's rows, in a template's words and a tokenizer's tokens."""

    halves: Halves
    prompter: Prompter
    knows_other_answers = True

    @property
    def tasks(self) -> Sequence[str]:
        return self.halves.family.tasks

    def prompts(
        self, role: Role, tasks: Sequence[str], shots: int, count: int,
        others: Sequence[str] = (), shared: bool = False, shuffled: bool = False, asked: Sequence[int] = (),
        corrupted: str | None = None,
    ) -> Mapping[str, Sequence[Prompt]]:  # fmt: skip
        given = others, shared, shuffled, asked, corrupted
        return self.halves.prompts(self.prompter, role, tasks, shots, count, *given)

    def describe(self) -> dict[str, Any]:
        return self.halves.describe()
