"""What may stand beside ``sae`` in a vector, and what may not stand without it."""

from __future__ import annotations

import re
from typing import Any

from patchboard.spec.refusal import InvalidValue
from patchboard.spec.values import shown

OF_DICTIONARIES = ("sae", "features", "select", "top", "by", "value")
"""Fields of a vector that a dictionary's features alone have."""
LAYER = "{layer}"
"""What the path of a family of dictionaries, one a layer, leaves open."""


def check_dictionary(vector: Any, kind: str) -> None:
    """vector: the section. Raises InvalidValue for what cannot be meant together."""
    if vector.sae is None:
        for field in OF_DICTIONARIES:
            if getattr(vector, field) is not None:
                what = f"found {shown(getattr(vector, field))} beside {kind}, but only a dictionary has features"
                raise InvalidValue(what, "remove it, or write sae: PATH", (field,))
        if vector.fitted_at is not None and vector.fitted_at.model is not None:
            what = f"found {shown(vector.fitted_at.model)} beside {kind}, which is used on its own model alone"
            raise InvalidValue(what, "remove it", ("fitted_at", "model"))
        return
    if not vector.sae.strip():
        raise InvalidValue("is empty", "give the path of a file, or hf://repo/path", ("sae",))
    for name in re.findall(r"\{.*?\}", vector.sae):
        if name != LAYER:
            raise InvalidValue(f"has {name} in it, a path may have {LAYER}", f"write {LAYER}, or the path", ("sae",))
    if (vector.features is None) == (vector.select is None):
        if vector.features is not None:
            raise InvalidValue("stands beside features", "write one of them", ("select",))
        remedy = "add features: [NUMBERS], or select: [same_task, all_tasks]"
        raise InvalidValue("is missing, as features are", remedy, ("select",))
    if vector.select is not None and vector.top is None:
        raise InvalidValue("is missing, select chooses that many features", "add top: 4", ("top",))
    for field in ("top", "by"):
        if vector.features is not None and getattr(vector, field) is not None:
            raise InvalidValue("stands beside features, which are chosen already", "remove it", (field,))
