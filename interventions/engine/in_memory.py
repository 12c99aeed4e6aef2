"""A model that the user has loaded already, in the place of one that a name finds. ``load_in_memory`` puts it here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from patchboard.errors import ModelError
from patchboard.spec.sections import ModelSection

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

PREFIX = "memory:"
"""Begins the name of such a model in the resolved spec; a digest of its contents follows."""
_DIGITS = 12


@dataclass(frozen=True)
class LoadedModel:
    """A user's model, with the sha256 of what numbers come from: weights, configuration and tokenizer.

    model: None where only a plan is made, so that nobody keeps weights alive for it.
    """

    model: PreTrainedModel | None
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    contents: Mapping[str, str]

    @property
    def name(self) -> str:
        """The model's name in the resolved spec."""
        return PREFIX + hashlib.sha256(json.dumps(self.contents, sort_keys=True).encode()).hexdigest()[:_DIGITS]

    def without_weights(self) -> LoadedModel:
        return replace(self, model=None)


_at_hand: ContextVar[LoadedModel | None] = ContextVar("the model in memory of this call", default=None)


@contextmanager
def at_hand(loaded: LoadedModel | None) -> Iterator[None]:
    """Within it the model's name finds it."""
    token = _at_hand.set(loaded)
    try:
        yield
    finally:
        _at_hand.reset(token)


def loaded_model(section: ModelSection) -> LoadedModel | None:
    """The model in memory that the section names, None for a name of another kind. Raises ModelError where it is not
    at hand."""
    if not section.name.startswith(PREFIX):
        return None
    loaded = _at_hand.get()
    if loaded is None or loaded.name != section.name:
        other = f", and the one given is {loaded.name}" if loaded else ""
        what = f"'{section.name}' was a model in memory{other}"
        raise ModelError("model.name", what, "give that model: run(study, model=…, tokenizer=…)")
    return loaded
