"""Where edits are made, in words: site, heads, neurons, tokens, layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from patchboard.report.described_values import phrase_in, text_of
from patchboard.report.numbers import listed
from patchboard.spec.positions import POSITIONS, name_and_end

SITE_PHRASES = {
    "resid_pre": "the residual stream before the block",
    "resid_post": "the residual stream after the block",
    "attn_out": "the attention's output",
    "mlp_out": "the MLP's output",
    "head": "the output of {heads}, before the output projection,",
    "q": "the query of {heads}",
    "k": "the key of {heads}",
    "v": "the value of {heads}",
    "pattern": "the attention weights of {heads}",
    "mlp_pre": "the MLP's {neurons}, before the activation,",
    "mlp_act": "the MLP's {neurons}, behind the activation,",
}


def place_words_of(made: Mapping[str, Any], several: bool) -> str:
    """Site and tokens: of an edit, or of a sender."""
    if "sweep" in made:
        return text_of(made)
    site = phrase_in(SITE_PHRASES, made["site"]).format(heads=heads_of(made, several), neurons=neurons_of(made))
    return f"{site} at {tokens_of(made['position'])}"


def heads_of(edit: Mapping[str, Any], several: bool) -> str:
    """Which heads; of several, each is a cell of its own unless the edit is one of several."""
    heads = edit.get("heads", "all")
    if isinstance(heads, int | Mapping):  # one head a cell, or swept
        return f"head {text_of(heads)}"
    each = "every head" if heads == "all" else f"heads {text_of(heads)}"
    return each if several else f"{each} (one at a time)"


def neurons_of(edit: Mapping[str, Any]) -> str:
    """Which neurons: those that are named are edited together."""
    neurons = edit.get("neurons", "all")
    if neurons == "all":
        return "neurons"
    return f"neuron{'s' * (not isinstance(neurons, int))} {text_of(neurons)}"


def named_heads(pairs: Any) -> str:
    """``heads 2.1 and 3.0``: block, then head."""
    if isinstance(pairs, Mapping):
        return " or ".join(map(named_heads, pairs["sweep"])) + " (swept)"
    return f"head{'s' * (len(pairs) > 1)} " + listed(f"{layer}.{head}" for layer, head in pairs)


def tokens_of(position: Any) -> str:
    if isinstance(position, list):
        return listed(map(tokens_of, position))
    if isinstance(position, str):
        name, end = name_and_end(position)
        of_name = POSITIONS[name].phrase if name in POSITIONS else f"the tokens of {name}"
        return f"the {end} of {of_name}" if end else of_name
    return f"token {position}" if isinstance(position, int) else text_of(position)


_OTHERS = {"onwards": "all later ones", "upto": "all earlier ones"}
"""What is edited beside the layer at which a cell stands."""


def layers_of(layers: Any, several: bool) -> str:
    if isinstance(layers, Mapping) and "sweep" not in layers:
        ((key, value),) = layers.items()
        return f"layers {text_of(value)} together" if key == "together" else _with_others(value, _OTHERS[key])
    if isinstance(layers, list) and len(layers) == 1:
        (layers,) = layers
    if isinstance(layers, int):
        return f"layer {layers}"
    if several:
        return f"layers {text_of(layers)}"
    return "every layer, one at a time" if layers == "all" else f"layers {text_of(layers)}, one at a time"


def _with_others(layers: Any, others: str) -> str:
    if isinstance(layers, list) and len(layers) == 1:
        (layers,) = layers
    if isinstance(layers, int):
        return f"layer {layers} and {others}"
    each = "every layer" if layers == "all" else f"each of layers {text_of(layers)}"
    return f"{each} with {others}, one such cell a layer"
