"""A pack as the engine takes it and gives it back: its layout, and the scores of its reads by prompt and copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from patchboard.plan.layout import Layout, Reads, TopReads, answer_starts
from patchboard.plan.model import Group, Pack
from patchboard.plan.packing import Templates, lay_out
from patchboard.plan.shown import shown_copies


@dataclass(frozen=True)
class PackScores:
    """Raw scores of one pack: one entry a read, with the prompt (index in the group) and copy it is of."""

    prompt: np.ndarray
    copy: np.ndarray
    token: np.ndarray  # place of the read in its answer
    scores: Mapping[str, np.ndarray]
    moved: Mapping[int, float]
    """Copy -> how far its edits moved any state (max abs over prompts)."""
    top: Mapping[str, np.ndarray] | None = None
    """As ``top_tokens`` gives it, of the answers that ``plan.shown.kept_answers`` names; None where none are kept."""


def pack_layout(group: Group, pack: Pack, known: Templates | None = None) -> Layout:
    """known: as of ``lay_out``, of packs of the same copies in the same way."""
    prompts, foils = [group.prompts[i] for i in pack.prompts], [group.foils[i] for i in pack.prompts]
    copies = [group.copies[c] for c in pack.copies]
    donors = {source: [some[i] for i in pack.prompts] for source, some in group.donors.items()}
    layout = lay_out(prompts, foils, copies, pack.way, group.prefix, pack.together, donors, known)
    layout.queries = np.array(pack.prompts)
    layout.top = _top_reads(group, pack, layout.reads)
    return layout


def _top_reads(group: Group, pack: Pack, reads: Reads) -> TopReads | None:
    shown = shown_copies(group)
    if not shown:
        return None
    starts = answer_starts(reads.prompt, reads.copy)
    kept = starts[np.isin(np.array(pack.copies)[reads.copy[starts]], shown)]
    return TopReads(group.top_tokens, group.every, kept, reads.prompt[kept])


def pack_scores(
    pack: Pack, layout: Layout, scores: Mapping[str, np.ndarray], far: Tensor, top: Mapping[str, Tensor] | None = None
) -> PackScores:
    """far [copy]: as ``largest_moves`` gives it for the pack's copies. top: as ``top_tokens`` does."""
    reads = layout.reads
    return PackScores(
        prompt=np.array(pack.prompts)[reads.prompt],
        copy=np.array(pack.copies)[reads.copy],
        token=reads.token,
        scores=scores,
        moved={pack.copies[c]: value for c, value in enumerate(far.tolist()) if value >= 0},
        top=None if top is None else {name: values.cpu().numpy() for name, values in top.items()},
    )
