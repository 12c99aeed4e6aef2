"""What a pass computes, counted from its layout as arrays are: padding, and pairs that a mask then shuts, included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from patchboard.plan.facts import ModelFacts
from patchboard.plan.flops import Work
from patchboard.plan.layout import NONE, PAD, ROOT, Layout
from patchboard.plan.packs import Budget


@dataclass(frozen=True)
class PassShape:
    """What of a layout decides how much its pass computes; of prompts of one shape it is the same.

    widths: (block, columns that enter there), from block 0 on. runs: how many unedited ones enter at block 0, 0 where
    some go on from a shared prefix; longest: of their tokens; seen: columns of block 0 of which copies see any. copies:
    (block, tokens, how many) of those that join. cut: whether edges of attention are, which takes a dense mask. reads:
    places that are read. before: tokens, padding left out, of runs that are computed once more before the others.
    """

    rows: int
    widths: tuple[tuple[int, int], ...]
    padded: bool
    packed: bool
    runs: int
    longest: int
    seen: int
    cut: bool
    copies: tuple[tuple[int, int, int], ...] = ()
    reads: int = 0
    before: int = 0


def pass_shape(layout: Layout, read: bool = True) -> PassShape:
    """read: whether anything is scored, so that the head is given what the layout reads."""
    trunk, segments = layout.first_width, layout.segments
    first = segments[:, :trunk]
    whole = not (layout.starts[:, :trunk] > 0)[first != PAD].any()
    lengths = _lengths(first)
    joins = [(join.layer, join.stop - join.start) for join in layout.joins]
    copies: Counter[tuple[int, int]] = Counter()
    for join in layout.joins:
        copies.update((join.layer, length) for length in _lengths(segments[:, join.start : join.stop]))
    reads = layout.reads if read else NONE
    rows, cols = np.r_[reads.row, reads.clean_row], np.r_[reads.col, reads.clean_col]
    return PassShape(
        rows=len(segments), widths=((0, trunk), *joins),
        padded=bool((first == PAD).any()), packed=layout.packed,
        runs=len(lengths) if whole else 0, longest=max(lengths, default=0),
        seen=int((first == ROOT).sum(1).max(initial=0)) if whole else trunk,
        cut=len(layout.edits.where(layout.edits.edits.cutting)) > 0,
        copies=tuple((block, length, count) for (block, length), count in sorted(copies.items())),
        reads=len(np.unique(rows * segments.shape[1] + cols)),
        before=layout.computed_tokens - int((segments != PAD).sum()),
    )  # fmt: skip


def _lengths(segments: np.ndarray) -> list[int]:
    """Tokens of each segment of each row."""
    return [length for row in segments for length in np.unique(row[row != PAD], return_counts=True)[1].tolist()]


def side_by_side(shapes: Mapping[PassShape, int]) -> PassShape:
    """Of a pass over units of these shapes, each so often: those that join at a block stand in the same columns."""
    shapes = {shape: often for shape, often in shapes.items() if shape.rows}  # excluded prompts have no rows
    widths: dict[int, int] = {0: 0}
    copies: Counter[tuple[int, int]] = Counter()
    for shape, often in shapes.items():
        for block, width in shape.widths:
            widths[block] = max(width, widths.get(block, 0))
        copies.update({(block, length): count * often for block, length, count in shape.copies})
    return PassShape(
        rows=sum(shape.rows * often for shape, often in shapes.items()),
        widths=tuple(sorted(widths.items())),
        padded=any(shape.padded or shape.widths[0][1] < widths[0] for shape in shapes),
        packed=any(shape.packed for shape in shapes),
        runs=sum(shape.runs * often for shape, often in shapes.items()) if all(s.runs for s in shapes) else 0,
        longest=max((shape.longest for shape in shapes), default=0),
        seen=max((shape.seen for shape in shapes), default=0) if all(s.runs for s in shapes) else widths[0],
        cut=any(shape.cut for shape in shapes),
        copies=tuple((block, length, count) for (block, length), count in sorted(copies.items())),
        reads=sum(shape.reads * often for shape, often in shapes.items()),
        before=sum(shape.before * often for shape, often in shapes.items()),
    )


def work_of(shape: PassShape, facts: ModelFacts, budget: Budget) -> Work:
    """A pass of whole sequences without padding has no mask, so a causal kernel skips the pairs above the diagonal; the
    attention of families that are not ``facts.sparse`` is counted as if it computed them. Windows are not looked at:
    the tokens of a prompt that has outgrown one are counted as if there were none. Runs before are counted as if each
    of their tokens met a whole sequence. Where the head is given states some at a time, or none, the model's own
    forward has read the end of each row out as well.
    """
    blocks = np.arange(facts.layers)
    width = np.sum([(blocks >= block) * columns for block, columns in shape.widths], 0)
    trunk = shape.widths[0][1]
    parted = budget.sparse and facts.sparse and len(shape.widths) > 1 and not shape.cut
    if parted:
        of_runs = shape.runs * shape.longest * (shape.longest + 1) // 2 or shape.rows * trunk**2
        pairs = of_runs + shape.rows * (width - trunk) * shape.seen + _among_themselves(shape, blocks)
    elif facts.sparse and not (shape.packed or shape.padded or shape.cut):
        pairs = shape.rows * trunk * (trunk + 1) // 2 + 0 * width
    else:
        pairs = shape.rows * width**2
    ends = shape.rows if budget.streamed or not shape.reads else 0
    return Work(shape.rows * width + shape.before, pairs + shape.before * trunk, shape.reads + ends)


def _among_themselves(shape: PassShape, blocks: np.ndarray) -> np.ndarray:
    """[layer] pairs of copies' tokens with their own copy's, computed for all copies of lengths between two powers of
    two as long as the longest of them."""
    classes: dict[int, list[tuple[int, int, int]]] = {}
    for block, length, count in shape.copies:
        classes.setdefault((length - 1).bit_length(), []).append((block, length, count))
    pairs = np.zeros(len(blocks), np.int64)
    for members in classes.values():
        longest = np.array([max((n for at, n, _ in members if at <= block), default=0) for block in blocks])
        there = sum((blocks >= at) * count for at, _, count in members)
        pairs += there * longest**2
    return pairs
