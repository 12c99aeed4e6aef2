"""What a dictionary's cfg.json says of it, in SAELens' spellings of all its versions, as far as it can be used here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from patchboard.errors import SpecError

ARCHITECTURES = ("standard", "jumprelu", "topk")
NORMS = ("none", "constant_norm_rescale", "layer_norm")
"""What is done to a state before it is encoded, each by what that very state is."""

_RENAMED = {
    "hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn": "activation_fn_str",
}  # fmt: skip
"""Keys of SAELens' earlier and later versions -> one spelling."""
_HOOKS = {"resid_pre": "resid_pre", "resid_post": "resid_post", "attn_out": "attn_out", "mlp_out": "mlp_out"}
_HOOK = re.compile(r"blocks\.(\d+)\.hook_(\w+)")
_REMEDY = "use another dictionary"


@dataclass(frozen=True)
class Config:
    """How a dictionary encodes, and where it was trained.

    hook: as its cfg.json calls the place; "" where nothing is known of it. norm: of NORMS. shifted: whether ``b_dec``
    is subtracted from what is encoded. centred: trained on a model whose writing weights were centred, which subtracts
    from each state its own mean. rescaled: whether activations are measured in the lengths of their decoder's rows.
    """

    architecture: str
    hook: str = ""
    model: str = ""
    norm: str = "none"
    shifted: bool = True
    centred: bool = False
    rescaled: bool = False
    k: int = 0

    @property
    def place(self) -> tuple[int, str] | None:
        """The block and site of the hook; None for one that has no name here."""
        found = _HOOK.fullmatch(self.hook)
        site = _HOOKS.get(found[2]) if found else None
        return (int(found[1]), site) if found and site else None


GEMMA_SCOPE = Config("jumprelu", shifted=False)
"""Of params.npz, which comes without cfg.json (Lieberum et al. 2024, arXiv 2408.05147)."""


def config_of(told: Mapping[str, Any], file: str, where: str) -> Config:
    """told: what stands in cfg.json; of SAELens 6 and later what it says of the model is under ``metadata``.

    Raises SpecError at ``where`` for a dictionary that encodes in another way than is known here.
    """
    nested = [told[name] for name in ("metadata", "meta") if isinstance(told.get(name), Mapping)]
    merged = {_RENAMED.get(name, name): value for part in (*nested, told) for name, value in part.items()}

    def refuse(what: str, remedy: str = _REMEDY) -> SpecError:
        return SpecError(where, f"'{file}' {what}", remedy)

    architecture, k = merged.get("architecture", "standard"), 0
    activation = merged.get("activation_fn_str", "relu")
    if activation == "topk" or architecture == "topk":
        architecture = "topk"
        k = merged.get("k") or (merged.get("activation_fn_kwargs") or {}).get("k")
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise refuse("is of architecture topk and names no k", "write it into its cfg.json")
    elif activation != "relu":
        raise refuse(f"has activation {activation}, expected relu or topk")
    if architecture not in ARCHITECTURES:
        raise refuse(f"is of architecture {architecture}, expected one of {', '.join(ARCHITECTURES)}")
    hook = str(merged.get("hook_name") or "")
    of_heads = hook.endswith("_z") or merged.get("reshape_activations") == "hook_z"
    if of_heads or merged.get("hook_head_index") is not None:
        raise refuse("is of attention heads' outputs, expected one of the residual stream, attn_out or mlp_out")
    changes = merged.get("model_from_pretrained_kwargs") or {}
    return Config(
        architecture=architecture,
        hook=hook,
        model=str(merged.get("model_name") or ""),
        norm=_norm(merged.get("normalize_activations"), refuse),
        shifted=bool(merged.get("apply_b_dec_to_input", True)),
        centred=bool(changes.get("center_writing_weights", False)),
        rescaled=architecture == "topk" and bool(merged.get("rescale_acts_by_decoder_norm", False)),
        k=k,
    )


def _norm(told: Any, refuse: Any) -> str:
    norm = "none" if told in (None, False) else "expected_average_only_in" if told is True else told  # as first spelled
    if norm == "expected_average_only_in":
        what = "was trained on states of a mean norm (expected_average_only_in), by a factor that is not in it"
        raise refuse(what, "fold the factor into the weights (SAELens: fold_activation_norm_scaling_factor)")
    if norm not in NORMS:
        raise refuse(f"has normalize_activations {norm}, expected one of {', '.join(NORMS)}")
    return norm
