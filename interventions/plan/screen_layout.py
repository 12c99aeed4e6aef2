"""The batch in which a screen meets some prompts: their clean runs, their sources' runs, and runs between the two.

Every row is one whole sequence. An edit of a cell stands at the tokens of its prompt's clean run; nothing is edited,
but the state there, the source's and the gradient are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from patchboard.plan.cells import Edit, source_of
from patchboard.plan.edit_table import NO_EDITS, CopyEdit, CopyEdits, EditTable
from patchboard.plan.layout import PAD, Layout, Read, Reads
from patchboard.plan.model import Counterfactual, Group
from patchboard.plan.screen import usable
from patchboard.plan.suffix import clean_tokens, suffix_of
from patchboard.plan.unit import read_positions
from patchboard.tasks.prompt import Prompt


@dataclass(frozen=True)
class ScreenLayout:
    """layout: its rows, of which the first are the prompts' clean runs; an edit's ``copy`` counts the screened cells.

    prompts [prompt]: each such row's number in the group. points [row, steps]: for the row of a source, the rows at
    which the gradient is taken of edits that put its states in; -1 for other rows. ends [between, 3]: rows between
    two embeddings, as (row, row of the prompt, row of the source), and weights [between]: how far along each is; of
    the first ``shared`` [between] tokens.
    """

    layout: Layout
    prompts: np.ndarray
    points: np.ndarray
    ends: np.ndarray
    weights: np.ndarray
    shared: np.ndarray


def screen_layout(group: Group, cells: Sequence[int], prompts: range, steps: int) -> ScreenLayout:
    """cells: as ``screened_cells`` gives them. steps: points between prompt and source; 0: the gradient is the
    prompt's own. The points are the middles of as many equal parts, where a sum errs least."""
    edits = [group.uses[cell].cell.edits[0] for cell in cells]
    own = [i for i in prompts if not group.prompts[i].excluded]
    sequences = [clean_tokens(group.prompts[i]) for i in own]
    reads = [] if steps else [_reads(group, i, row, row) for row, i in enumerate(own)]
    rows: dict[tuple[str, int], int] = {}
    ends: list[tuple[int, int, int]] = []
    for source in dict.fromkeys(map(source_of, edits)):
        for row, i in enumerate(own):
            if usable(group.prompts[i], group.donors[source][i]):
                rows[source, i] = len(sequences)
                sequences.append(clean_tokens(group.donors[source][i]))
                for _ in range(steps):
                    ends.append((len(sequences), row, rows[source, i]))
                    reads.append(_reads(group, i, len(sequences), row))
                    sequences.append(sequences[row])
    points = np.full((len(sequences), max(1, steps)), -1)
    for (_, i), row in rows.items():
        points[row] = np.arange(row + 1, row + 1 + steps) if steps else own.index(i)
    layout = _of_rows(sequences)
    layout.edits = _edit_table(group, edits, own, rows)
    layout.reads = Reads.of([read for some in reads for read in some])
    between = np.array(ends, np.int64).reshape(-1, 3)
    weights = np.tile((np.arange(steps) + 0.5) / max(1, steps), len(between) // max(1, steps))
    shared = np.array([len(group.prompts[own[row]].token_ids) for row in between[:, 1]], np.int64)
    return ScreenLayout(layout, np.array(own, np.int64), points, between, weights, shared)


def _reads(group: Group, i: int, row: int, clean_row: int) -> list[Read]:
    """Of the prompt's first right answer."""
    prompt = group.prompts[i]
    return [
        Read(i, row, j, row, prompt.last + j, target, group.foils[i], clean_row, prompt.last)
        for j, target in enumerate(prompt.answer_ids)
    ]


def _of_rows(sequences: Sequence[tuple[int, ...]]) -> Layout:
    shape = len(sequences), max(map(len, sequences), default=0)
    tokens, positions, homes, starts = (np.zeros(shape, np.int64) for _ in range(4))
    segments = np.full(shape, PAD, np.int64)
    for row, ids in enumerate(sequences):
        tokens[row, : len(ids)] = ids
        positions[row, : len(ids)] = np.arange(len(ids))
        segments[row, : len(ids)] = 0
    return Layout(tokens, positions, segments, homes, starts)


def _edit_table(group: Group, edits: Sequence[Edit], own: Sequence[int], rows: dict[tuple[str, int], int]) -> EditTable:
    """Of each edit the tokens of all prompts that it can be made in."""
    known: dict[tuple, np.ndarray] = {}  # layers, heads and sites change nothing about where
    tokens = [NO_EDITS.tokens]
    for number, edit in enumerate(edits):
        key = source_of(edit), edit.position, edit.read and (edit.read.position, edit.read.filled)
        if key not in known:
            places = [at for row, i in enumerate(own) for at in _tokens(group, edit, i, row, rows)]
            known[key] = np.array(places, np.int64).reshape(-1, 5).T
        tokens.append(np.vstack([np.full(known[key].shape[1], number), known[key]]))
    return EditTable(CopyEdits(tuple(CopyEdit(edit, 0, c) for c, edit in enumerate(edits))), np.concatenate(tokens, 1))


def _tokens(
    group: Group, edit: Edit, i: int, row: int, rows: dict[tuple[str, int], int]
) -> list[tuple[int, int, int, int, int]]:
    """(row, column, source's row, source's column, prompt) of each edited token; none where it cannot be made."""
    prompt, source = group.prompts[i], source_of(edit)
    if (source, i) not in rows:
        return []
    where = _edited(prompt, edit)
    taken = read_positions(group.donors[source][i], edit, len(where)) if where else ()
    if len(taken) != len(where):
        return []
    return [(row, at, rows[source, i], of, i) for at, of in zip(where, taken, strict=True)]


def _edited(prompt: Prompt, edit: Edit) -> tuple[int, ...]:
    suffix = suffix_of(prompt, Counterfactual((edit,)))
    return suffix.edited[0][1] if suffix else ()
