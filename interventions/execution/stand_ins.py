"""What stands for fitted operands where only the time matters that passes take: zeros of their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from patchboard.ops import SubspaceTensors
from patchboard.ops.base import fitted_part
from patchboard.plan.cells import STATE, Edit
from patchboard.plan.facts import ModelFacts
from patchboard.plan.layout import Layout
from patchboard.vectors.base import Operand, Recipe


def stand_ins(
    layout: Layout, facts: ModelFacts, recipes: Mapping[str, Recipe], device: torch.device
) -> dict[str, Operand]:
    """Key -> zeros, for all fitted operands of the layout's edits. Features of dictionaries, whose files are large,
    have none: their edits are taken out of the layout."""
    layout.edits = layout.edits.where(layout.edits.edits.such(lambda edit: not _is_of_features(edit, recipes)))
    operands: dict[str, Any] = {}
    for edit in layout.edits.present:
        width = len(edit.neurons) or facts.width_at(edit.site)
        if edit.subspace:
            operands[edit.subspace] = _subspace(edit.subspace, width, recipes)
        if not edit.operand or edit.operand.startswith(STATE):
            continue
        subspace = fitted_part(edit.op) == "subspace"
        operands[edit.operand] = _subspace(edit.operand, width, recipes) if subspace else torch.zeros(width)
    return {key: operand.to(device) for key, operand in operands.items()}


def _is_of_features(edit: Edit, recipes: Mapping[str, Recipe]) -> bool:
    return edit.operand in recipes and recipes[edit.operand].dictionary is not None


def _subspace(key: str, width: int, recipes: Mapping[str, Recipe]) -> SubspaceTensors:
    rank = max(1, recipes[key].rank) if key in recipes else 1
    return SubspaceTensors(torch.zeros(width, rank), torch.zeros(rank, width), torch.zeros(width))
