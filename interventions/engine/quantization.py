"""``model.quantization``: weights held in 8 or 4 bits by bitsandbytes, quantised as they are loaded."""

from __future__ import annotations

from typing import Any

from patchboard.errors import ModelError
from patchboard.extras import require_extra
from patchboard.spec.sections import ModelSection


def check_quantization(section: ModelSection, config: Any) -> None:
    """Raises ModelError where the checkpoint is quantised already."""
    stored = getattr(config, "quantization_config", None)
    if section.quantization is None or stored is None:
        return
    method = stored.get("quant_method") if isinstance(stored, dict) else getattr(stored, "quant_method", None)
    what = f"found {section.quantization}, and the checkpoint itself is quantised ({method or 'quantization_config'})"
    raise ModelError("model.quantization", what, "leave it out, or give the unquantised checkpoint")


def quantization_of(section: ModelSection, dtype: Any) -> dict[str, Any]:
    """What ``from_pretrained`` is to be given beside the rest; nothing where nothing is asked for.

    4bit is the normal-float code of QLoRA (nf4), computed in ``dtype``; 8bit is LLM.int8(). Raises ModelError where
    the package is missing.
    """
    if section.quantization is None:
        return {}
    require_extra("quantization", ModelError, "model.quantization", section.quantization)
    import torch
    from transformers import BitsAndBytesConfig

    if section.quantization == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    computed = dtype if isinstance(dtype, torch.dtype) else torch.bfloat16
    how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=computed)
    return {"quantization_config": how}
