"""The packs of one model's plan, and the files among the run folder's parts that hold their scores."""

from __future__ import annotations

from patchboard.engine.pack_scores import PackScores
from patchboard.execution.held_parts import files_holding
from patchboard.measure.kept_tokens import with_top_tokens
from patchboard.measure.outcomes import combine
from patchboard.measure.scored_group import ScoreTables
from patchboard.plan.model import Group, ModelPlan, Pack
from patchboard.plan.packs import Budget, halved, packs_of
from patchboard.store.folder import RunFolder


class PackParts:
    """Each pack lies in one file, or in a file for each of its halves, or of theirs.

    prefix: of the files' names where the run has several models. engine, budget: by which the plan is cut into packs.
    """

    def __init__(self, plan: ModelPlan, folder: RunFolder, prefix: str, engine: str, budget: Budget):
        self.folder, self.prefix = folder, prefix
        self.groups = plan.groups
        self.packs = {group.id: list(packs_of(group, plan.facts, engine, budget)) for group in plan.groups}

    def __len__(self) -> int:
        """How many packs there are."""
        return sum(map(len, self.packs.values()))

    def explain(self, reason: str) -> str:
        """The reason of an engine's choice, and where single copies are computed in another way all the same."""
        packs = [pack for packs in self.packs.values() for pack in packs]
        rows = sum(len(pack.prompts) * len(pack.copies) for pack in packs if pack.way == "rows")
        pairs = sum(len(pack.prompts) * len(pack.copies) for pack in packs)
        if not rows or rows == pairs:
            return reason
        return f"{reason}; {rows} of {pairs} counterfactuals as rows, where that is less work (edits at early tokens)"

    def file_of(self, pack: Pack) -> str:
        return f"parts/{self.prefix}{pack.id}.parquet"

    def files_holding(self, pack: Pack) -> list[str] | None:
        """The files that hold the pack, as a whole or in halves; None where some of it is missing."""
        return files_holding(self.folder, pack, self.file_of, halved)

    def hold(self, group: Group) -> bool:
        """Whether all of the group's packs are in the folder."""
        return all(self.files_holding(pack) is not None for pack in self.packs[group.id])

    def missing(self) -> list[tuple[Group, Pack]]:
        """The packs of which something is not in the folder yet."""
        return [
            (group, pack)
            for group in self.groups
            for pack in self.packs[group.id]
            if self.files_holding(pack) is None
        ]  # fmt: skip

    def write(self, scores: PackScores, group: Group, pack: Pack) -> None:
        table = combine(scores.prompt, scores.copy, scores.scores, scores.moved)
        self.folder.write_table(self.file_of(pack), with_top_tokens(table, group, scores.top))

    def scores(self, group: Group) -> ScoreTables:
        """The group's tables, one row for each pair computed, read one at a time."""
        names: list[str] = []
        for pack in self.packs[group.id]:
            files = self.files_holding(pack)
            assert files is not None, f"part {self.file_of(pack)} is missing"
            names += files
        return map(self.folder.read_table, names)
