"""Packed sequences: the clean prompt, then one suffix copy for each counterfactual.

If a copy's earliest edited token is at position p, causality makes everything before p equal to the
clean prompt, so the copy holds only positions p … end and sees the clean tokens before p. One
sequence of S + C tokens then does the work of C passes of S tokens, exactly (docs/architecture.md, Packed execution).

Two ways, one layout type:
``wavefront``  a copy stands behind the clean prompt, and joins at the first block that its edits change, with the
               clean states as its own;
``rows``       one whole sequence a copy, nothing shared.

Many prompts of a batch differ in their tokens only. A unit (a prompt with its copies) is laid out once a
shape and stamped for the others, as arrays: token by token in Python it took longer than a small model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from patchboard.plan.edit_table import NO_EDITS, CopyEdits, EditTable
from patchboard.plan.layout import PAD, Join, Layout, Reads
from patchboard.plan.model import Counterfactual, EngineKind
from patchboard.plan.suffix import shape_of
from patchboard.plan.unit import UnitBuilder
from patchboard.tasks.prompt import Prompt


def lay_out(
    prompts: Sequence[Prompt], foils: Sequence[int], copies: Sequence[Counterfactual], way: EngineKind,
    prefix: int = 0, together: int = 1, donors: Mapping[str, Sequence[Prompt]] | None = None,
    known: Templates | None = None,
) -> Layout:  # fmt: skip
    """The layout of every copy of every prompt, as of a whole group; a clean run of each is always in it.

    Two copies of one prompt that differ only in a target of one token share their computation.
    Reads of copies that cannot be computed are absent. prefix: first tokens that all prompts have in
    common; ``together`` prompts then share a sequence that holds them once (not in rows). donors: for each
    source that an operand names, the prompts (one for each of ``prompts``) whose clean states are put in. known:
    templates of these copies that were laid out before, to which new ones are added.
    """
    if way == "rows" or together == 1:
        prefix, together = 0, 1
    kept = [i for i, prompt in enumerate(prompts) if not prompt.excluded]
    units = [tuple(kept[start : start + together]) for start in range(0, len(kept), together)]
    donors, known = donors or {}, known or Templates()
    edits = known.edits = known.edits or CopyEdits.of(copies)
    alike: dict[tuple, list[int]] = {}
    for number, unit in enumerate(units):
        sources = (prompts, *donors.values())
        alike.setdefault(tuple(shape_of(some[i]) for some in sources for i in unit), []).append(number)
    stamps = []
    for shapes, numbers in alike.items():
        chosen = [units[number] for number in numbers]
        own = [[prompts[i] for i in unit] for unit in chosen]
        others = {source: [[some[i] for i in unit] for unit in chosen] for source, some in donors.items()}
        if shapes not in known.units:
            first = {source: some for source, (some, *_) in others.items()}
            builder = UnitBuilder(own[0], copies, way, prefix, first, edits)
            known.units[shapes] = _Template(builder.build(), builder.owners, builder.owners_of)
        stamps.append(_stamp(known.units[shapes], np.array(numbers), np.array(chosen), own, others, copies))
    layout = _side_by_side(stamps, edits)
    reads = layout.reads.taken(np.argsort(layout.reads.prompt, kind="stable"))
    layout.reads = replace(reads, foil=np.asarray(foils, dtype=np.int64)[reads.prompt])
    layout.queries = np.arange(len(prompts))
    return layout


@dataclass(frozen=True)
class _Template:
    """The layout of one unit, which those of its shape have too, but for tokens and targets.

    owners [row, seq], owners_of: as of ``UnitBuilder``.
    """

    layout: Layout
    owners: np.ndarray
    owners_of: list[tuple[str, int]]


@dataclass
class Templates:
    """What layouts of the same copies in the same way share: the copies' edits, and units by their prompts' shapes."""

    edits: CopyEdits | None = None
    units: dict[tuple, _Template] = field(default_factory=dict)


@dataclass(frozen=True)
class _Stamp:
    """Units of one shape: their template, and what differs in them.

    numbers [unit] their places among all units; prompts [unit, prompt] their indices in the whole layout;
    tokens [unit, row, seq]; targets [unit, read].
    """

    of: _Template
    numbers: np.ndarray
    prompts: np.ndarray
    tokens: np.ndarray
    targets: np.ndarray

    @property
    def template(self) -> Layout:
        return self.of.layout


def _stamp(
    of: _Template, numbers: np.ndarray, prompts: np.ndarray, units: list[list[Prompt]],
    donors: Mapping[str, list[list[Prompt]]], copies: Sequence[Counterfactual],
) -> _Stamp:  # fmt: skip
    """units, donors[source]: [unit][prompt], all of the template's shape."""
    layout = of.layout
    texts = [[(donors[source] if source else units)[u][i].token_ids for source, i in of.owners_of]
              for u in range(len(units))]  # fmt: skip
    ids = _padded(texts)
    own = (layout.segments != PAD) & (layout.positions < np.array([len(each) for each in texts[0]])[of.owners])
    tokens = np.repeat(layout.tokens[None], len(units), 0)
    tokens[:, own] = ids[:, of.owners[own], layout.positions[own]]  # answers before their last token are alike
    reads = layout.reads
    targets = np.repeat(reads.target[None], len(units), 0)
    answers_read = [(copies[c].target, copies[c].answer) for c in reads.copy.tolist()]
    for target, number in set(answers_read):
        mine = np.array([one == (target, number) for one in answers_read])
        answers = _padded([[(*p.right(target), *[()] * (number + 1))[number] for p in unit] for unit in units])
        targets[:, mine] = answers[:, reads.prompt[mine], reads.token[mine]]
    return _Stamp(of, numbers, prompts, tokens, targets)


def _padded(rows: Sequence[Sequence[tuple[int, ...]]]) -> np.ndarray:
    """[unit, sequence, token], zeros behind the end of shorter ones."""
    longest = max(len(one) for row in rows for one in row)
    return np.array([[(*one, *(0,) * (longest - len(one))) for one in row] for row in rows], dtype=np.int64)


def _side_by_side(stamps: Sequence[_Stamp], copy_edits: CopyEdits) -> Layout:
    """All units in one layout: those that join at a block in the same columns, whatever their lengths."""
    spans = [{0: (0, s.template.first_width)} | {j.layer: (j.start, j.stop) for j in s.template.joins} for s in stamps]
    widths = {
        layer: max((span[layer][1] - span[layer][0] for span in spans if layer in span), default=0)
        for layer in sorted({0, *(layer for span in spans for layer in span)})
    }
    starts = dict(zip(widths, np.cumsum([0, *widths.values()]).tolist(), strict=False))
    heights = np.zeros(sum(len(s.numbers) for s in stamps), np.int64)
    for stamp in stamps:
        heights[stamp.numbers] = stamp.tokens.shape[1]
    rows, width = int(heights.sum()), sum(widths.values())
    whole = {name: np.zeros((rows, width), np.int64) for name in ("tokens", "positions", "homes", "starts", "source")}
    segments = np.full((rows, width), PAD, np.int64)
    edited: list[np.ndarray] = [NO_EDITS.tokens]
    reads: list[Reads] = []
    for stamp, span in zip(stamps, spans, strict=True):
        template = stamp.template
        units, height, _ = stamp.tokens.shape
        columns = np.concatenate([starts[layer] + np.arange(stop - start) for layer, (start, stop) in span.items()])
        first_rows = (np.cumsum(heights) - heights)[stamp.numbers][:, None]  # units stand in the prompts' order
        inside = np.ix_((first_rows + np.arange(height)).ravel(), columns)
        whole["tokens"][inside] = stamp.tokens.reshape(units * height, -1)
        segments[inside] = np.tile(template.segments, (units, 1))
        for name in ("positions", "homes", "starts"):
            whole[name][inside] = np.tile(getattr(template, name), (units, 1))
        for join in template.joins:
            there = np.ix_(inside[0][:, 0], columns[join.start : join.stop])
            whole["source"][there] = np.tile(columns[join.source], (units, 1))
        edited.append(_edited_by_all(stamp, first_rows, columns))
        reads.append(_read_by_all(stamp, first_rows, columns))
    joins = [
        Join(layer, starts[layer], starts[layer] + widths[layer],
             whole["source"][:, starts[layer] : starts[layer] + widths[layer]])
        for layer in widths if layer
    ]  # fmt: skip
    del whole["source"]
    arrays = (whole["tokens"], whole["positions"], segments, whole["homes"], whole["starts"])
    return Layout(*arrays, joins, EditTable(copy_edits, np.concatenate(edited, 1)), Reads.joined(reads))


def _edited_by_all(stamp: _Stamp, first_rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The first unit's edited tokens, for all units. first_rows [unit, 1], columns [the unit's column]."""
    of, rows, cols, source_rows, source_cols, prompts = stamp.template.edits.tokens
    units, first = len(first_rows), first_rows[:, 0]
    return np.stack([
        of.repeat(units), (rows[:, None] + first).ravel(), columns[cols].repeat(units),
        (source_rows[:, None] + first).ravel(), columns[source_cols].repeat(units), stamp.prompts[:, prompts].T.ravel(),
    ])  # fmt: skip


def _read_by_all(stamp: _Stamp, first_rows: np.ndarray, columns: np.ndarray) -> Reads:
    """The first unit's reads, for all units."""
    reads, units = stamp.template.reads, len(first_rows)
    return Reads(
        prompt=stamp.prompts[:, reads.prompt].ravel(),
        copy=np.tile(reads.copy, units),
        token=np.tile(reads.token, units),
        row=(first_rows + reads.row).ravel(),
        col=np.tile(columns[reads.col], units),
        target=stamp.targets.ravel(),
        foil=np.tile(reads.foil, units),
        clean_row=(first_rows + reads.clean_row).ravel(),
        clean_col=np.tile(columns[reads.clean_col], units),
    )
