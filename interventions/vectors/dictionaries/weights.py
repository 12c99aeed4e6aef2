"""A dictionary's weights as its features' encoder and decoder, float32."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from patchboard.errors import SpecError
from patchboard.ops import FeatureTensors
from patchboard.ops.feature_tensors import WholeEncoder
from patchboard.vectors.dictionaries.dictionary import Dictionary
from patchboard.vectors.files.contents import contents_of

_FACTORS = ("scaling_factor", "finetuning_scaling_factor")
"""Tensors that older files hold beside the weights: of ones, unless a fine-tuning has moved them."""


@lru_cache(maxsize=1)
def all_features(dictionary: Dictionary) -> FeatureTensors:
    """Every feature of the dictionary, with target 0. One dictionary is kept: they are large.

    Raises SpecError for weights that are not finite, or scaled by what is not known here.
    """
    contents = contents_of(dictionary.located, dictionary.file)

    def get(name: str) -> Tensor:
        tensor = contents.get(name).float().contiguous()
        if not bool(tensor.isfinite().all()):
            raise SpecError(dictionary.file, f"'{name}' holds NaN or infinite numbers", "fetch it again")
        return tensor

    for name in _FACTORS:
        if name in contents.shapes and not bool((get(name) == 1).all()):
            raise SpecError(dictionary.file, f"has a {name} of other numbers than 1", "fold it into W_dec")
    config, encoder, decoder, bias = dictionary.config, get("W_enc"), get("W_dec"), get("b_enc")
    shift = get("b_dec")
    if config.rescaled:  # as SAELens' fold_W_dec_norm does: activations are in the length of what they write
        lengths = decoder.norm(dim=-1)
        encoder, bias, decoder = encoder * lengths, bias * lengths, decoder / lengths[:, None]
    none = torch.zeros(dictionary.size)
    return FeatureTensors(
        encoder,
        bias,
        get("threshold") if config.architecture == "jumprelu" else none,
        decoder,
        shift if config.shifted else torch.zeros_like(shift),
        none,
        torch.arange(dictionary.size),
        config.norm,
        config.centred,
        config.k,
        WholeEncoder(encoder, bias, min(config.k, dictionary.size)) if config.k else None,
    )


@lru_cache(maxsize=64)
def whole_encoder(dictionary: Dictionary) -> WholeEncoder | None:
    """Of a top-k dictionary; one object for all operands that need it."""
    return all_features(dictionary).whole


def some_features(dictionary: Dictionary, numbers: Sequence[int], target: Tensor) -> FeatureTensors:
    """These features, to be set to ``target`` [feature] where the op sets them."""
    every, some = all_features(dictionary), torch.tensor(list(numbers))
    return FeatureTensors(
        every.encoder[:, some].contiguous(),
        every.bias[some],
        every.threshold[some],
        every.decoder[some],
        every.center.clone(),  # tensors of a file share no memory
        target.float(),
        some,
        every.norm,
        every.centred,
        every.k,
        whole_encoder(dictionary),
    )
