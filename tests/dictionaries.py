"""Small dictionaries in SAELens' layout, and SAELens' definition of their activations written out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor


def tensors(width: int, size: int, seed: int = 0, threshold: bool = False) -> dict[str, Tensor]:
    """Random weights, of which some half of the features are active in a random state."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        "W_enc": torch.randn(width, size, generator=generator) / width**0.5,
        "b_enc": torch.randn(size, generator=generator) / 4,
        "W_dec": torch.randn(size, width, generator=generator) / width**0.5,
        "b_dec": torch.randn(width, generator=generator) / 4,
    }
    return drawn | ({"threshold": torch.rand(size, generator=generator) / 2} if threshold else {})


def write_dictionary(folder: Path, weights: dict[str, Tensor], **config: Any) -> str:
    """Weights and cfg.json as SAELens 6 saves them; gives the path of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    size, width = weights["W_dec"].shape
    metadata = {name: config.pop(name) for name in ("hook_name", "model_name") if name in config}
    told = {
        "architecture": "standard", "d_in": width, "d_sae": size, "dtype": "float32", "apply_b_dec_to_input": True,
        "normalize_activations": "none", "reshape_activations": "none", "metadata": metadata,
    }  # fmt: skip
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, str(folder / "sae_weights.safetensors"))
    (folder / "cfg.json").write_text(json.dumps(told | config))
    return str(folder / "sae_weights.safetensors")


def literal_sae(weights: dict[str, Tensor], h: Tensor, **config: Any) -> tuple[Tensor, Any]:
    """One state h [d_in] at a time -> (activations [d_sae], a function that decodes activations), by the formulas of
    SAELens' documentation: normalise, subtract b_dec, encode, decode, undo the normalisation."""
    norm, d_in = config.get("normalize_activations", "none"), len(h)
    undo = lambda x: x  # noqa: E731
    x = h
    if norm == "constant_norm_rescale":
        factor = d_in**0.5 / h.norm()
        x, undo = h * factor, lambda y: y / factor
    if norm == "layer_norm":
        mean = h.mean()
        deviation = (((h - mean) ** 2).sum() / (d_in - 1)) ** 0.5
        x, undo = (h - mean) / (deviation + 1e-5), lambda y: y * deviation + mean
    if config.get("apply_b_dec_to_input", True):
        x = x - weights["b_dec"]
    z = torch.stack([sum(x[i] * weights["W_enc"][i, j] for i in range(d_in)) + weights["b_enc"][j] for j in
                     range(weights["W_enc"].shape[1])])  # fmt: skip
    lengths = weights["W_dec"].norm(dim=-1) if config.get("rescale_acts_by_decoder_norm") else torch.ones(len(z))
    z = z * lengths
    if config.get("architecture") == "topk":
        kept = sorted(range(len(z)), key=lambda j: -float(z[j]))[: config["k"]]
        f = torch.stack([z[j].clamp(min=0) if j in kept else torch.tensor(0.0) for j in range(len(z))])
    elif config.get("architecture") == "jumprelu":
        f = torch.where(z > weights["threshold"], z.clamp(min=0), 0.0)
    else:
        f = z.clamp(min=0)
    return f, lambda acts: undo((acts / lengths) @ weights["W_dec"] + weights["b_dec"])
