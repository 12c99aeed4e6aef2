"""The files of dictionaries that a spec names: weights, and cfg.json beside them; one for all layers or one a layer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from patchboard.errors import SpecError
from patchboard.spec.dictionaries import LAYER
from patchboard.spec.places import Onwards, Together, Upto
from patchboard.user_paths import expanded
from patchboard.vectors.dictionaries.config import GEMMA_SCOPE, Config, config_of
from patchboard.vectors.files.located import HUB, located

CONFIG = "cfg.json"
_ENDINGS = (".safetensors", ".npz")


def at_layer(sae: str, layer: int) -> str:
    """The path of one layer's dictionary."""
    return sae.replace(LAYER, str(layer))


def weights_named(sae: str, layers: Any, where: str) -> list[str]:
    """The files of weights that a path stands for, before the model is known. layers: the edit's, as the spec has them.

    Raises SpecError where there are none, and for layers that only the model tells where the files are on the Hub.
    """
    if LAYER not in sae:
        return [sae]
    if sae.startswith(HUB):
        return [at_layer(sae, layer) for layer in _numbers(layers, where)]
    found = list(_matches(sae))
    if not found:
        raise SpecError(where, f"there is no file '{sae}' of any layer", "give the path of files with {layer} in it")
    return found


def config_beside(weights: str) -> str:
    """The path of the config of these weights; "" of a format that has none."""
    path, at, revision = weights.partition("@") if weights.startswith(HUB) else (weights, "", "")
    if path.endswith(".npz"):
        return ""
    folder, slash, _ = path.rpartition("/")
    return f"{folder}{slash}{CONFIG}{at}{revision}"


def files_of(weights: str) -> list[str]:
    """The weights and, where they have one, their config: what a run is bound to."""
    return [weights, *filter(None, [config_beside(weights)])]


def read_config(weights: str, where: str) -> Config:
    """Raises SpecError where it is not there, cannot be read, or is of another kind of dictionary."""
    ending = Path(weights.partition("@")[0] if weights.startswith(HUB) else weights).suffix
    if ending not in _ENDINGS:
        what = f"'{weights}' ends in '{ending}', expected {' or '.join(_ENDINGS)}"
        raise SpecError(where, what, "name SAELens' sae_weights.safetensors or Gemma Scope's params.npz")
    if not config_beside(weights):
        return GEMMA_SCOPE
    file = located(config_beside(weights), where)
    try:
        told = json.loads(file.path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        told = None
    if not isinstance(told, dict):
        raise SpecError(where, f"'{file.name}' is no JSON mapping", "fetch it again")
    try:
        return config_of(told, weights, where)
    except (AttributeError, TypeError):
        what = f"'{file.name}' holds values of other types than SAELens writes"
        raise SpecError(where, what, "fetch it again") from None


def _numbers(layers: Any, where: str) -> list[int]:
    """Blocks that layers name by number."""
    if isinstance(layers, int) and layers >= 0:
        return [layers]
    if isinstance(layers, Together):
        return _numbers(layers.together, where)
    if isinstance(layers, list) and all(block >= 0 for block in layers):
        return list(layers)
    bounds = re.fullmatch(r"(\d*):(\d+)(?::(\d+))?", layers) if isinstance(layers, str) else None
    if bounds:
        return list(range(int(bounds[1] or 0), int(bounds[2]), int(bounds[3] or 1)))
    told = layers.model_dump() if isinstance(layers, Onwards | Upto) else layers
    what = f"has {LAYER} in an address of the Hub, where layers {json.dumps(told)} do not tell the files"
    raise SpecError(where, what, "write the layers as numbers, [3, 7] or 0:12")


def _matches(sae: str) -> Iterator[str]:
    """Local files of which the path, with some layer in it, is the name; in the layers' order."""
    whole = expanded(sae)
    anchor = Path(str(whole).partition(LAYER)[0]).parent
    if not anchor.is_dir():
        return
    below = whole.relative_to(anchor)
    form = re.compile(r"(\d+)".join(map(re.escape, str(whole).split(LAYER))).replace(r"(\d+)", r"(?P<layer>\d+)", 1))
    found = []
    for path in anchor.glob(re.sub(r"\[", "[[]", str(below)).replace(LAYER, "*")):
        match = form.fullmatch(str(path))
        if match and len({*match.groups()}) == 1:
            found.append((int(match["layer"]), sae.replace(LAYER, match["layer"])))
    yield from (name for _, name in sorted(found))
