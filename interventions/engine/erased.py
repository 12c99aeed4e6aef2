"""States at the last token of prompts, unedited and after each of many edits: in the same packs as a run's cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchboard.engine.batch import Capture, put
from patchboard.engine.halving import Halving
from patchboard.engine.local import LocalEngine
from patchboard.engine.pack_scores import pack_layout
from patchboard.plan.facts import ModelFacts
from patchboard.plan.layout import NONE
from patchboard.plan.model import Group, Pack
from patchboard.plan.packs import halved, packs_of

Floats = NDArray[np.float32]


def states_of_copies(
    engine: LocalEngine, group: Group, first: Sequence[int], facts: ModelFacts, way: str, operands: Mapping[str, Any]
) -> list[Floats]:
    """Of each copy [prompt, layer, d_model]: outputs of blocks from ``first[copy]`` on, before the answer.

    The edits of a block's output are made before it is read. group: of usable prompts alone. way: as ``packs_of`` takes
    an engine. operands: as ``LocalEngine.place`` gives them. Raises EngineError where a single prompt has no room.
    """
    width, layers = facts.width, facts.layers
    found = [np.empty((len(group.prompts), layers - start, width), np.float32) for start in first]

    def put_down(pack: Pack) -> None:
        for copy, states in zip(pack.copies, _of_pack(engine, group, pack, first, operands), strict=True):
            found[copy][list(pack.prompts)] = states

    packs = Halving(engine, put_down, halved, lambda _: f"one prompt of {group.task} with one edit does not fit")
    for pack in packs_of(group, facts, way, engine.budget):
        packs.do(pack)
    return found


def _of_pack(
    engine: LocalEngine, group: Group, pack: Pack, first: Sequence[int], operands: Mapping[str, Any]
) -> list[NDArray]:
    """As ``states_of_copies``, of the pack's copies and prompts."""
    layout = pack_layout(group, pack)
    reads, layers = layout.reads, engine.module.config.num_hidden_layers
    captures = []
    for number, copy in enumerate(pack.copies):
        mine = reads.copy == number
        assert (reads.prompt[mine] == np.arange(len(pack.prompts))).all(), "one state of each prompt, in their order"
        rows, cols, group_of = put(reads.row[mine]), put(reads.col[mine]), put(np.arange(len(pack.prompts)))
        captures.append(
            Capture("resid_post", tuple(range(first[copy], layers)), rows, cols, group_of, len(group_of), edited=True)
        )
    layout.reads = NONE
    _, result = engine.forward(layout, operands, {}, captures)
    return [torch.stack(states, 1).cpu().numpy() for states in result["states"]]
