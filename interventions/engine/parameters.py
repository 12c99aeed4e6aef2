"""How large a model is, counted both ways that scaling laws count it (arXiv 2406.12907: Kaplan's and Chinchilla's)."""

from __future__ import annotations

from typing import Any


def counted(module: Any) -> dict[str, int]:
    """Parameters of a causal language model, and those of them that embed, for the manifest.

    ``parameters``: all, a shared one once (Chinchilla's count). ``embedding_parameters``: of input embeddings, learned
    positions and the output head, where it is not tied to the input; Kaplan's count is what is left without them.
    module: a transformers model, on the meta device or any other.
    """
    from torch.nn import Embedding

    head = module.get_output_embeddings()
    embedding = [part for part in module.modules() if isinstance(part, Embedding)] + ([] if head is None else [head])
    # by identity: tied weights are one tensor
    own = {id(each): _numbers(each) for part in embedding for each in part.parameters()}
    return {"parameters": sum(map(_numbers, module.parameters())), "embedding_parameters": sum(own.values())}


def _numbers(parameter: Any) -> int:
    """How many it stands for: bitsandbytes keeps two 4-bit numbers in a byte, and their shape beside."""
    packed = getattr(parameter, "quant_state", None)
    return parameter.numel() if packed is None else packed.shape.numel()
