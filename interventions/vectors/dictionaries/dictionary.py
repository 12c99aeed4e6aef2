"""A dictionary at the place where a spec uses it: held against the model, the site and the layer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from patchboard.errors import SpecError
from patchboard.spec.fitted import FittedAtSection
from patchboard.spec.vectors import VectorSection
from patchboard.vectors.dictionaries.config import Config
from patchboard.vectors.dictionaries.files import at_layer, read_config
from patchboard.vectors.files.contents import Contents, contents_of
from patchboard.vectors.files.given import Use
from patchboard.vectors.files.located import Located, located

NORM_BEHIND = ("gemma2", "gemma3_text", "olmo2", "olmo3", "glm4")
"""Families whose attention and MLP pass a norm of their own before they are added to the stream. Dictionaries of
``hook_attn_out`` and ``hook_mlp_out`` are of what is behind it, our sites before it."""


@dataclass(frozen=True)
class Dictionary:
    """The files of one dictionary, and what they tell before its weights are read. size: how many features it has."""

    file: str
    sha256: str
    commit: str
    config: Config
    size: int
    path: Path = field(compare=False, repr=False)

    @property
    def located(self) -> Located:
        return Located(self.file, self.path, self.sha256, self.commit)


def opened(weights: str, where: str) -> tuple[Dictionary, Contents]:
    """The dictionary in a file, and what is in it. where: of the vector.

    Raises SpecError where a tensor is missing or has another shape than the others say.
    """
    at = f"{where}.sae"
    file = located(weights, at)
    config, contents = read_config(weights, at), contents_of(file, at)
    size = _size(contents.shapes, config, file.name, at)
    return Dictionary(file.name, file.sha256, file.commit, config, size, file.path), contents


def check_features(dictionary: Dictionary, vector: VectorSection, where: str) -> None:
    """Raises SpecError where the spec asks for features that it has not."""
    for i, feature in enumerate(vector.features or ()):
        if feature >= dictionary.size:
            what = f"there is no feature {feature}, '{dictionary.file}' has {dictionary.size}"
            raise SpecError(f"{where}.features[{i}]", what, f"choose 0 to {dictionary.size - 1}")
    if vector.top is not None and vector.top > dictionary.size:
        what = f"{vector.top} features of '{dictionary.file}', which has {dictionary.size}"
        raise SpecError(f"{where}.top", what, "use fewer")


def dictionary_at(vector: VectorSection, use: Use, family: str, where: str) -> Dictionary:
    """The dictionary of one edit. where: of the vector.

    Raises SpecError where it is of another model, place or width, or lacks the features.
    """
    assert vector.sae is not None
    told = vector.fitted_at or FittedAtSection()
    layer = use.layer if told.layer is None else told.layer
    dictionary, contents = opened(at_layer(vector.sae, layer), where)
    check_features(dictionary, vector, where)
    at = f"{where}.sae"
    if use.site in ("attn_out", "mlp_out") and family in NORM_BEHIND:
        what = f"dictionaries of hook_{use.site} are of what is behind the norm that follows it in {family}"
        raise SpecError(at, f"{what}, and site {use.site} is before it", "use one of the residual stream")
    _check_place(dictionary, told, use, at)
    width = contents.shapes["W_enc"][0]
    if width != use.width:
        what = f"'{dictionary.file}' is of width {width}, the model's states at {use.site} have {use.width}"
        raise SpecError(at, what, "use a dictionary of this model and site")
    return dictionary


def _size(shapes: Mapping[str, tuple[int, ...]], config: Config, name: str, where: str) -> int:
    """The number of features that all shapes agree on."""
    wide = shapes.get("W_enc", ())
    if len(wide) != 2:
        has = f"of shape {list(wide)}" if wide else f"missing, it has {', '.join(list(shapes)[:6]) or 'nothing'}"
        raise SpecError(where, f"W_enc of '{name}' is {has}, expected [d_in, d_sae]", "use SAELens' layout")
    width, size = wide
    wanted = {"W_dec": (size, width), "b_enc": (size,), "b_dec": (width,)}
    wanted |= {"threshold": (size,)} if config.architecture == "jumprelu" else {}
    for tensor, shape in wanted.items():
        if shapes.get(tensor) != shape:
            found = list(shapes[tensor]) if tensor in shapes else "missing"
            what = f"{tensor} of '{name}' is {found}, expected {list(shape)} beside W_enc {list(wide)}"
            raise SpecError(where, what, "use SAELens' layout")
    return size


def _check_place(dictionary: Dictionary, told: FittedAtSection, use: Use, where: str) -> None:
    config = dictionary.config
    if config.hook and config.place is None and (told.layer is None or told.site is None):
        what = f"'{dictionary.file}' is of hook {config.hook}, which is no site here"
        raise SpecError(where, what, f"write fitted_at: {{layer: {use.layer}, site: {use.site}}} if that is the place")
    differing = list(_differing(config, told, use))
    if differing:
        what = f"'{dictionary.file}' is of another place: {', '.join(what for _, what, _ in differing)}"
        settings = ", ".join(f"{name}: {json.dumps(value)}" for name, _, value in differing)
        raise SpecError(where, what, f"edit there, or write fitted_at: {{{settings}}}")


def _differing(config: Config, told: FittedAtSection, use: Use) -> Iterator[tuple[str, str, object]]:
    """(field, what, the dictionary's value) of each that differs from where the spec says that it was trained."""
    if config.model and config.model != told.model and not _one_model(config.model, told.model or use.model.name):
        yield "model", f"model {config.model} there, {told.model or use.model.name} here", config.model
    layer, site = use.layer if told.layer is None else told.layer, told.site or use.site
    if config.place is None:
        return
    own_layer, own_site = config.place
    if _state(own_layer, own_site) == _state(layer, site):
        return
    if own_layer != layer:
        yield "layer", f"layer {own_layer} there, {layer} here", own_layer
    if own_site != site:
        yield "site", f"site {own_site} there, {site} here", own_site


def _state(layer: int, site: str) -> tuple[int, str]:
    """The output of a block is the input of the next one."""
    return (layer + 1, "resid_pre") if site == "resid_post" else (layer, site)


_ALIASES = {"gpt2-small": "gpt2"}
"""TransformerLens' names that are no ending of the Hub's."""


def _one_model(one: str, other: str) -> bool:
    """Whether two names may be one model's: TransformerLens leaves the owner out."""
    ends = [name.rstrip("/").rpartition("/")[2].lower() for name in (one, other)]
    return _ALIASES.get(ends[0], ends[0]) == _ALIASES.get(ends[1], ends[1])
