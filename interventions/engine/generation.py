"""Texts that a model writes behind prompts while cells' edits are made: a traced pass for each new token, on a cache.

Prompts of a batch are padded on the left, so that what is new stands in one column; positions are those of a text
alone, and windows, which go by columns, are as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchboard.engine.batch import Batch, make_batch, put
from patchboard.engine.given_states import Wanted, given_states
from patchboard.engine.local import LocalEngine
from patchboard.engine.sampling import next_tokens
from patchboard.plan.cells import STATE
from patchboard.plan.edit_table import NO_EDITS, CopyEdit, CopyEdits, EditTable
from patchboard.plan.layout import PAD, ROOT, Layout, Read, Reads
from patchboard.plan.texts import PlacedEdit
from patchboard.spec.generate import When
from patchboard.tasks.prompt import Prompt

_LOGITS = {"logits": lambda logits, *_: logits}


@dataclass(frozen=True)
class Begun:
    """A text to go on from: a prompt, the cell's edits of it, and for each that takes states the prompt they are of.

    query: the prompt's place in its group. drawn [token]: in [0, 1), of a text whose tokens are drawn.
    """

    prompt: Prompt
    edits: tuple[PlacedEdit, ...]
    donors: tuple[Prompt | None, ...]
    query: int
    drawn: Tensor


def generated(
    engine: LocalEngine, texts: Sequence[Begun], tokens: int, temperature: float, when: When,
    operands: Mapping[str, Any],
) -> list[tuple[int, ...]]:  # fmt: skip
    """Of each text its new tokens: ``tokens`` of them, or up to one that ends it.

    operands: as ``LocalEngine.place`` gives them. A text whose logits are no numbers ends there.
    """
    cache = _empty_cache(engine)
    lengths = [len(text.prompt.token_ids) for text in texts]
    ends = torch.tensor(end_tokens(engine.module), device=engine.device)
    drawn = torch.stack([text.drawn for text in texts])
    placed, states = _with_states(engine, texts)
    known = {**operands, **engine.place(states)}
    first = _edit_table(placed, [max(lengths) - length for length in lengths]) if when != "decode" else NO_EDITS
    queries = np.array([text.query for text in texts])
    batch = make_batch(_layout([text.prompt.token_ids for text in texts], first, queries))
    single = [[each._replace(tokens=(0,)) for each in own] for own in placed]
    behind = _edit_table(single) if when != "prompt" else NO_EDITS
    later = make_batch(_layout([(0,)] * len(texts), behind, queries))
    real = (batch.segments != PAD).long()
    new: list[Tensor] = []
    ended = torch.zeros(len(texts), dtype=torch.bool, device=engine.device)
    counts = torch.zeros(len(texts), dtype=torch.long, device=engine.device)
    for n in range(tokens):
        logits = engine.step(batch, known, _LOGITS, cache)["scores"]["logits"]
        ended |= logits.isnan().any(-1)
        new.append(next_tokens(logits, temperature, drawn[:, n]))
        counts += ~ended
        ended |= torch.isin(new[-1], ends)
        if bool(ended.all()):
            break
        batch = _fed(later, new[-1], put(lengths) + n, torch.nn.functional.pad(real, (0, n), value=1))
    written = torch.stack(new, 1).tolist()
    return [tuple(ids[:count]) for ids, count in zip(written, counts.tolist(), strict=True)]


def _empty_cache(engine: LocalEngine) -> dict[str, Any]:
    """By the name that this version's forward has for it."""
    from transformers import DynamicCache

    names = inspect.signature(engine.module.forward).parameters
    return {"cache" if "cache" in names else "past_key_values": DynamicCache(config=engine.module.config)}


def end_tokens(model: Any) -> list[int]:
    """Ids that end a text; the generation's configuration has those of chat models."""
    for config in (getattr(model, "generation_config", None), model.config):
        ids = getattr(config, "eos_token_id", None)
        if ids is not None:
            return [ids] if isinstance(ids, int) else list(ids)
    return []


def _with_states(engine: LocalEngine, texts: Sequence[Begun]) -> tuple[list[list[PlacedEdit]], dict[str, Tensor]]:
    """Each text's edits, one for each state that is put in in place of one that takes several, and those operands."""
    wanted, placed = [], []
    for text in texts:
        own = []
        for each, donor in zip(text.edits, text.donors, strict=True):
            if donor is None:
                own.append(each)
                continue
            for i in range(len(each.tokens)):
                key = f"given {len(wanted)} {i}"  # no name of a run's states
                own.append(each._replace(edit=replace(each.edit, operand=key, read=None), tokens=(each.tokens[i],)))
            wanted.append(Wanted(each.edit, donor, each.taken))
        placed.append(own)
    found = given_states(engine, wanted)
    return placed, {f"given {w} {i}": state for w, states in enumerate(found) for i, state in enumerate(states)}


def _edit_table(placed: Sequence[Sequence[PlacedEdit]], padding: Sequence[int] | None = None) -> EditTable:
    """The edits of all texts. padding: columns in front of each."""
    made, where = [], []
    for row, edits in enumerate(placed):
        before = padding[row] if padding else 0
        for edit, order, tokens, _ in edits:
            assert not edit.operand.startswith(STATE), "known states alone"
            where += [(len(made), row, before + at, row, before + at, row) for at in tokens]
            made.append(CopyEdit(edit, order, row))
    return EditTable.made(CopyEdits(tuple(made)), where)


def _layout(rows: Sequence[tuple[int, ...]], edits: EditTable, queries: np.ndarray) -> Layout:
    """Sequences beside each other, padded on the left, each read at its last token."""
    width = max(map(len, rows))
    zeros = np.zeros((len(rows), width), np.int64)
    tokens, positions, segments = zeros.copy(), zeros.copy(), np.full_like(zeros, PAD)
    for row, ids in enumerate(rows):
        own = slice(width - len(ids), width)
        tokens[row, own], positions[row, own], segments[row, own] = ids, np.arange(len(ids)), ROOT
    last = width - 1
    reads = Reads.of([Read(row, row, 0, row, last, 0, -1, row, last) for row in range(len(rows))])
    return Layout(tokens, positions, segments, zeros, zeros, edits=edits, reads=reads, queries=queries)


def _fed(batch: Batch, tokens: Tensor, positions: Tensor, before: Tensor) -> Batch:
    """The batch of single tokens, with these at these positions, behind a cache of these columns."""
    return replace(batch, tokens=tokens[:, None].cpu(), positions=positions[:, None], before=before)
