"""Where things stand in each model family: module paths as data, one row a family.

To add a family: one row, its sizes in ``tests/models.py``, then ``pytest tests/parity``, which takes its cases
from this table. ``family_check`` holds a row against the loaded model; docs/families.md tells what the rows say.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Any, Literal

from patchboard.engine.sites import MODULES
from patchboard.errors import ModelError
from patchboard.registry import Registry
from patchboard.spec.sites import HEADED, NEURAL, PATTERN, SITES

ROWS_FILE = "interventions/engine/families.py"

MaskForm = Literal["full", "window", "by_type"]
"""How a decoder takes a mask that was made for it.

``full``     one mask for all blocks, nothing slides;
``window``   one mask for all blocks, which slides where the configuration has a ``sliding_window``;
``by_type``  a dictionary {full_attention, sliding_attention}, each block picking by ``config.layer_types``.
             (Given one mask, these decoders use it for both kinds, and the window is lost without a word.)
"""

Fusion = Literal["", "parts", "groups"]
"""How one module gives queries, keys and values (``q``, ``k`` and ``v`` are then one path), in pieces of head_dim.

``""``       three modules, each with its own heads in order;
``parts``    all queries, then all keys, then all values;
``groups``   for each key-value head the queries that share it, then its key, then its value.
"""


@dataclass(frozen=True)
class Architecture:
    """Module paths of one family, as its ``transformers`` class names them. An empty path: there is no such part."""

    model_type: str  # config.model_type
    decoder: str = "model"  # the stack of blocks, from the causal language model
    blocks: str = "layers"  # from the decoder
    norm: str = "norm"  # final norm, from the decoder
    head: str = "lm_head"  # from the causal language model
    attention: str = "self_attn"  # from a block; of a state-space model, its mixer
    mlp: str = "mlp"
    attention_out: str = "self_attn.o_proj"
    """Output projection of the attention, from a block; its input is [batch, seq, heads * head_dim], in head order."""
    q: str = "self_attn.q_proj"
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    fused: Fusion = ""
    mlp_up: str = "mlp.gate_proj"
    """The projection before the MLP's activation, from a block: [batch, seq, neurons]. Of a gated one the gate's, whose
    output may hold the other half behind its own."""
    mlp_down: str = "mlp.down_proj"
    """The projection behind the activation; its input is [batch, seq, neurons]. Empty, as ``mlp_up``, with experts."""
    gated: bool = True
    """The MLP has a third matrix, of the gate, beside the one in and the one out."""
    mask: MaskForm = "full"
    packs: bool = True
    """Takes a mask that shuts copies off from each other. Otherwise cells are run as whole rows."""
    sparse: bool = False
    """Its attention is looked up by name in the registry of transformers and needs nothing but queries, keys, values,
    mask and scale; so packs may put their own there (``block_sparse``)."""

    def lacks(self, site: str) -> str:
        """The part of a block that ``site`` needs and this family's blocks don't have; empty if all is there."""
        if site not in MODULES or getattr(self, MODULES[site][0]):
            return ""
        if site in NEURAL and self.mlp:
            return "MLP of one set of neurons"
        return "attention heads" if site in HEADED else "MLP"


ARCHITECTURES: Registry[Architecture] = Registry("model family")
"""config.model_type -> row."""

_DENSE = {"gemma2", "gpt_oss", "falcon", "mamba2"}
"""Not ``sparse``: a cap on attention scores, sinks, attention of its own, none."""
_EXPERTS: dict[str, Any] = {"mlp_up": "", "mlp_down": ""}
"""Each token goes through neurons of its own experts."""


def _one_projection(path: str, fused: Fusion) -> dict[str, Any]:
    return {"q": path, "k": path, "v": path, "fused": fused}


for _row in (
    Architecture("llama"),
    Architecture("mistral", mask="window"),
    Architecture("phi3", mask="window", mlp_up="mlp.gate_up_proj", **_one_projection("self_attn.qkv_proj", "parts")),
    Architecture("qwen2", mask="by_type"),
    Architecture("qwen3", mask="by_type"),
    Architecture("gemma2", mask="by_type"),
    Architecture("gemma3_text", mask="by_type"),
    Architecture("olmo"),
    Architecture("olmo2"),
    Architecture("olmo3", mask="by_type"),
    Architecture("olmoe", **_EXPERTS),
    Architecture("mixtral", mask="window", **_EXPERTS),
    Architecture("qwen3_moe", mask="window", **_EXPERTS),
    Architecture("smollm3", mask="by_type"),
    Architecture("granite"),
    Architecture("granitemoe", mlp="block_sparse_moe", **_EXPERTS),
    Architecture("cohere"),
    Architecture("cohere2", mask="by_type"),
    Architecture("glm", mlp_up="mlp.gate_up_proj"),
    Architecture("glm4", mlp_up="mlp.gate_up_proj"),
    Architecture("gpt_oss", mask="by_type", **_EXPERTS),
    Architecture("phimoe", mask="window", **_EXPERTS),
    Architecture("starcoder2", mask="window", mlp_up="mlp.c_fc", mlp_down="mlp.c_proj", gated=False),
    Architecture("stablelm"),
    Architecture(
        "phi",
        norm="final_layernorm", attention_out="self_attn.dense", mlp_up="mlp.fc1", mlp_down="mlp.fc2", gated=False,
    ),
    Architecture(
        "opt",
        decoder="model.decoder", norm="final_layer_norm", attention_out="self_attn.out_proj",
        mlp="fc2", mlp_up="fc1", mlp_down="fc2", gated=False,
    ),
    Architecture(
        "falcon",
        decoder="transformer", blocks="h", norm="ln_f",
        attention="self_attention", attention_out="self_attention.dense",
        **_one_projection("self_attention.query_key_value", "groups"),
        mlp_up="mlp.dense_h_to_4h", mlp_down="mlp.dense_4h_to_h", gated=False,
    ),
    Architecture(
        "gptj",
        decoder="transformer", blocks="h", norm="ln_f", attention="attn", attention_out="attn.out_proj",
        q="attn.q_proj", k="attn.k_proj", v="attn.v_proj", mlp_up="mlp.fc_in", mlp_down="mlp.fc_out",
        gated=False,
    ),
    Architecture(
        "gpt2",
        decoder="transformer", blocks="h", norm="ln_f", attention="attn", attention_out="attn.c_proj",
        **_one_projection("attn.c_attn", "parts"), mlp_up="mlp.c_fc", mlp_down="mlp.c_proj",
        gated=False,
    ),
    Architecture(
        "gpt_neox",
        decoder="gpt_neox", norm="final_layer_norm", attention="attention", attention_out="attention.dense",
        **_one_projection("attention.query_key_value", "groups"),
        mlp_up="mlp.dense_h_to_4h", mlp_down="mlp.dense_4h_to_h", gated=False,
    ),
    Architecture(
        "mamba2",
        decoder="backbone", norm="norm_f", attention="mixer", mlp="", attention_out="", q="", k="", v="",
        **_EXPERTS, packs=False,
    ),
):  # fmt: skip
    ARCHITECTURES.register(_row.model_type)(replace(_row, sparse=_row.model_type not in _DENSE))

VARIANTS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    # ALiBi counts its positions on a mask of two dimensions, and fails on one for copies
    "falcon": ("alibi", True, {"packs": False}),
    # norms behind attention and MLP, none at the end; the last block's output is narrowed to the embeddings' width
    "opt": ("do_layer_norm_before", False, {"norm": "project_out"}),
}
"""model_type -> (setting, value, fields): where the configuration has this value, the row differs in these fields."""


def architecture_of(config: Any) -> Architecture:
    """The family's row, or its variant. Raises ModelError for a family that has none, telling how to add one."""
    family = config.model_type
    if family in ARCHITECTURES:
        setting, value, changes = VARIANTS.get(family, ("", None, {}))
        varied = bool(setting) and getattr(config, setting) == value
        return replace(ARCHITECTURES[family], **changes) if varied else ARCHITECTURES[family]
    inner = config.get_text_config()
    if inner is not config and inner.model_type in ARCHITECTURES:
        raise ModelError(
            "model.name",
            f"'{family}' is a multimodal model around a language model of family '{inner.model_type}'",
            "give a checkpoint of its language model alone (docs/families.md shows how to save one)",
        )
    if config.is_encoder_decoder:
        raise ModelError("model.name", f"'{family}' is an encoder-decoder model", "give a decoder-only language model")
    near = difflib.get_close_matches(family, ARCHITECTURES, n=3, cutoff=0.5)
    nearest = f" (nearest: {', '.join(near)})" if near else ""
    raise ModelError(
        "model.name",
        f"no row for its family: looked for model_type '{family}' among {', '.join(sorted(ARCHITECTURES))}{nearest}",
        f"use one of these, or add a row Architecture('{family}', …) to {ROWS_FILE} as docs/families.md says",
    )


def sites_of(architecture: Architecture, clipped: bool) -> tuple[str, ...]:
    """The sites that its blocks have. clipped: whether values are, between their projection and attention (OLMo's
    ``clip_qkv``), so that what heads mix is not what is read there."""
    lacking = (PATTERN,) if clipped else ()
    return tuple(site for site in SITES if not architecture.lacks(site) and site not in lacking)


def head_dim_of(config: Any) -> int:
    """Width of one head's part of the input of ``attention_out``: some families set it apart from d_model / heads."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def mlp_width_of(config: Any) -> int:
    """Inner width of the MLPs that a token goes through in one block, all its experts together; 0 if none is named."""
    names = ("moe_intermediate_size", "intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner")
    width = next((value for name in names if (value := getattr(config, name, None))), 0)
    return width * (getattr(config, "num_experts_per_tok", None) or 1)


def tail_of(config: Any) -> tuple[str, float]:
    """What a model of this configuration makes of its head's output, as ``scores.logits_behind`` does it."""
    tails = {"final_logit_softcapping": "softcap", "logit_scale": "times", "logits_scaling": "over"}
    found = [(kind, float(by)) for name, kind in tails.items() if (by := getattr(config, name, None))]
    return found[0] if found else ("", 1.0)


def at_path(root: Any, path: str) -> Any:
    """``root.a.b`` for ``"a.b"``, on modules and on nnsight's envoys alike."""
    for name in path.split("."):
        root = getattr(root, name)
    return root
