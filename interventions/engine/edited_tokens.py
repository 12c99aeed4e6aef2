"""Which tokens of a forward pass an intervention edits: prompt and generated ones told apart, cache or no cache."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel

from patchboard.engine.families import architecture_of, at_path
from patchboard.errors import SpecError

FORMS = ("from_last", "last", "all")
Position: TypeAlias = Literal["from_last", "last", "all"] | int | Sequence[int]

_CACHES = ("cache", "past_key_values", "cache_params")
"""What decoders call the states of earlier tokens."""


class EditedTokens:
    """Follows a model's passes and says which tokens of the current one are edited.

    position: ``from_last``, ``last``, ``all``, or indices of the prompt.
    """

    def __init__(self, position: str | int | Sequence[int]):
        self.position = (position,) if isinstance(position, int) else position
        self.chosen = torch.zeros(0, 0, dtype=torch.bool)
        """[batch, seq] of the current pass."""
        self._prompt: Tensor | None = None
        """Within a generation [batch, seq] bool: the prompt's tokens, padding left out."""
        self._seen = 0
        """Tokens that the passes of the current cache have had."""

    @property
    def batch(self) -> int:
        return len(self.chosen)

    @contextmanager
    def followed(self, model: PreTrainedModel) -> Iterator[None]:
        """Look at what the decoder is given in each pass, and at what ``generate`` is given."""
        decoder = at_path(model, architecture_of(model.config).decoder)
        signature = inspect.signature(decoder.forward)

        def look(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._look(signature.bind_partial(*args, **kwargs).arguments)

        own = vars(model).get("generate")
        generate: Any = model.generate

        @functools.wraps(generate)
        def generating(inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
            outer = self._prompt
            self._prompt = _prompt_of(inputs, kwargs)
            try:
                return generate(inputs, *args, **kwargs)
            finally:
                self._prompt = outer

        handle = decoder.register_forward_pre_hook(look, with_kwargs=True)
        vars(model)["generate"] = generating
        try:
            yield
        finally:
            handle.remove()
            if own is None:
                del vars(model)["generate"]
            else:
                vars(model)["generate"] = own

    def _look(self, arguments: dict[str, Any]) -> None:
        arguments = {**arguments, **arguments.get("kwargs", {})}
        tokens: Tensor = arguments["inputs_embeds"] if arguments.get("input_ids") is None else arguments["input_ids"]
        batch, width = tokens.shape[:2]
        before = self._earlier(arguments)
        self._seen = before + width
        mask = arguments.get("attention_mask")
        prompt = self._prompt
        if prompt is None:  # not of generate: a pass without earlier tokens is a prompt, later tokens follow one
            prompt = _real(mask, batch, width) if before == 0 else torch.zeros(batch, before, dtype=torch.bool)
        elif len(prompt) != batch:  # beams, or several answers to each prompt
            prompt = prompt.repeat_interleave(batch // len(prompt), 0)
        self.chosen = self._of_sequence(prompt, before + width)[:, before:]

    def _earlier(self, arguments: dict[str, Any]) -> int:
        """How many tokens the cache holds."""
        cache = next((value for name in _CACHES if (value := arguments.get(name)) is not None), None)
        if cache is None:
            return 0
        try:
            return int(cache.get_seq_length())
        except (AttributeError, NotImplementedError, ValueError):  # a recurrent state does not count its tokens
            return self._seen if getattr(cache, "has_previous_state", lambda: self._seen > 0)() else 0

    def _of_sequence(self, prompt: Tensor, length: int) -> Tensor:
        """[batch, length] bool of the sequence so far. prompt [batch, its length]: which of its tokens are real."""
        size = prompt.shape[1]
        chosen = torch.zeros(len(prompt), max(length, size), dtype=torch.bool)
        if self.position == "all":
            chosen[:, :size], chosen[:, size:] = prompt, True
        elif self.position in ("from_last", "last"):
            chosen[:, :size] = _nth(prompt, -1) if prompt.any() else False
            chosen[:, size:] = self.position == "from_last"
        else:
            for index in self.position if prompt.any() else ():
                chosen[:, :size] |= _nth(prompt, int(index))
        return chosen[:, :length]


def _prompt_of(inputs: Tensor | None, kwargs: dict[str, Any]) -> Tensor:
    """[batch, seq] bool: what ``generate`` is given to go on from, padding left out."""
    tokens = inputs if inputs is not None else kwargs.get("input_ids")
    if tokens is None:
        tokens = kwargs.get("inputs_embeds")
    if tokens is None:  # nothing: generate begins with a token of its own
        return torch.ones(1, 1, dtype=torch.bool)
    return _real(kwargs.get("attention_mask"), *tokens.shape[:2])


def _real(mask: Any, batch: int, width: int) -> Tensor:
    if isinstance(mask, Tensor) and mask.shape == (batch, width):
        return mask.detach().cpu() != 0
    return torch.ones(batch, width, dtype=torch.bool)


def _nth(prompt: Tensor, index: int) -> Tensor:
    """prompt [batch, seq] with its index-th real token alone. Raises SpecError where a prompt has none."""
    counts = prompt.sum(1)
    least = int(counts.min())
    if not -least <= index < least:
        raise SpecError("position", f"found {index}, the prompt has {least} tokens", "give an index within it")
    place = index if index >= 0 else counts[:, None] + index
    return prompt & (prompt.cumsum(1) - 1 == place)
