"""Use a vector: edit every forward pass of a plain transformers model, generation included, inside a ``with``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from patchboard.engine.edit_hooks import StateEdit, edited_forward
from patchboard.engine.edited_tokens import FORMS, EditedTokens, Position
from patchboard.engine.families import architecture_of, head_dim_of
from patchboard.engine.load_in_memory import check_model
from patchboard.engine.parts import kv_heads_of, neurons_of, slots_of
from patchboard.errors import SpecError
from patchboard.ops import OPS, FeatureTensors, SubspaceTensors, kinds_of
from patchboard.registry import suggest
from patchboard.spec.sites import HEADED, NEURAL, PATTERN, SITES


@contextmanager
def intervene(
    model: PreTrainedModel,
    vector: Tensor | SubspaceTensors | None = None,
    op: str = "add",
    layer: int | Sequence[int] = 0,
    strength: float = 1.0,
    site: str = "resid_post",
    position: Position = "from_last",
    head: int | None = None,
    neurons: Sequence[int] | None = None,
) -> Iterator[PreTrainedModel]:
    """Edit the model's states in every forward pass of the body, those of ``model.generate`` included.

    vector: [d_model], of a head [head_dim], of neurons [neuron]; of ``ablate`` a subspace; None for ops that take none
    (``scale``, ``zero``). ``run.vectors["added", 2, "XOR"]`` is one. op: as in a spec; computed in float32, then cast
    back. layer: a block, from 0, or several, each edited with the same vector. site: ``resid_pre``, ``attn_out``,
    ``mlp_out``, ``resid_post``; ``q``, ``k``, ``v`` or ``head`` with a ``head``; ``mlp_pre`` or ``mlp_act``, perhaps
    with some ``neurons`` alone.
    position: which tokens of each sequence are edited:

    - ``from_last``: the last token of the prompt, and every token that is generated after it;
    - ``last``: the last token of the prompt and no other;
    - ``all``: every token of the prompt, and every token that is generated;
    - an index or several: tokens of the prompt; negative ones count from its end.

    The prompt is what ``generate`` is given, else what a pass without earlier tokens in its cache is given; padding, on
    either side, is told by the ``attention_mask`` and not counted. With or without a cache, the edits are the same.
    The model is given back as it was, also after an error; one ``with`` may stand in another, and their edits compose.

    Raises ModelError for what is no model of a known family, SpecError for an op, layer, site, position or vector that
    the model or the op does not take.

    >>> import torch
    >>> from patchboard.engine.load import load_weights
    >>> from patchboard.spec.sections import ModelSection
    >>> model = load_weights(ModelSection(), "cpu", "float32")
    >>> clean = model(torch.tensor([[1, 2, 3]])).logits
    >>> with pb.intervene(model, op="zero", layer=5):
    ...     bool((model(torch.tensor([[1, 2, 3]])).logits == clean).all())
    False
    >>> bool((model(torch.tensor([[1, 2, 3]])).logits == clean).all())
    True
    """
    check_model(model)
    blocks = _blocks(model, layer)
    _check_place(model, site, head, neurons)
    columns, width = _edited_part(model, site, head, neurons)
    edit = StateEdit(OPS.get(op, "op").apply, _operand(op, vector, width), float(strength), columns)
    _check_position(position)
    tokens = EditedTokens(position)
    with ExitStack() as stack:
        stack.enter_context(tokens.followed(model))
        for block in blocks:
            stack.enter_context(edited_forward(model, block, site, edit, tokens))
        yield model


def _blocks(model: PreTrainedModel, layer: int | Sequence[int]) -> list[int]:
    blocks = [layer] if isinstance(layer, int) else list(layer)
    count = model.config.num_hidden_layers
    for block in blocks:
        if not isinstance(block, int) or isinstance(block, bool) or not 0 <= block < count:
            raise SpecError("layer", f"found {block!r}, the model has blocks 0 to {count - 1}", "give one of these")
    if not blocks or len(set(blocks)) < len(blocks):
        raise SpecError("layer", f"found {blocks}, expected different blocks", "give each block once")
    return blocks


def _edited_part(
    model: PreTrainedModel, site: str, head: int | None, neurons: Sequence[int] | None
) -> tuple[slice | list[int] | None, int]:
    """Which columns of the module's states are edited, and how many they are. Raises SpecError."""
    config = model.config
    if site in HEADED:
        count = kv_heads_of(config) if site in ("k", "v") else config.num_attention_heads
        if not isinstance(head, int) or not 0 <= head < count:
            raise SpecError("head", f"found {head!r}, the model has heads 0 to {count - 1} there", "give one of these")
        slots = slots_of(architecture_of(config), config.num_attention_heads, kv_heads_of(config))
        slot, size = slots[site][head], head_dim_of(config)
        return slice(slot * size, (slot + 1) * size), size
    if site not in NEURAL:
        return None, config.hidden_size
    count = neurons_of(config)
    if neurons is None:
        return slice(0, count), count
    chosen = [neuron for neuron in neurons if isinstance(neuron, int) and 0 <= neuron < count]
    if not chosen or len(chosen) < len(neurons) or len(set(chosen)) < len(chosen):
        what = f"found {list(neurons)}, expected different numbers of 0 to {count - 1}"
        raise SpecError("neurons", what, "give some of these, each once")
    return chosen, len(chosen)


def _check_place(model: PreTrainedModel, site: str, head: int | None, neurons: Sequence[int] | None) -> None:
    if site not in SITES:
        raise SpecError("site", f"there is no site '{site}'", suggest(site, SITES))
    if site == PATTERN:
        what = f"{PATTERN} takes the attention weights of another run, and there is no other run here"
        raise SpecError("site", what, "use head, or run a spec")
    lacking = architecture_of(model.config).lacks(site)
    if lacking:
        raise SpecError(
            "site", f"{site}: blocks of family '{model.config.model_type}' have no {lacking}", "use another"
        )
    sites = [each for each in HEADED if each != PATTERN]
    if site not in HEADED and head is not None:
        raise SpecError("head", f"has no meaning at site {site}", f"leave it out, or give site={' or '.join(sites)}")
    if site not in NEURAL and neurons is not None:
        what, remedy = f"have no meaning at site {site}", f"leave them out, or give site={' or '.join(NEURAL)}"
        raise SpecError("neurons", what, remedy)


def _check_position(position: Any) -> None:
    if isinstance(position, str):
        if position not in FORMS:
            what = f"found '{position}', expected {', '.join(FORMS)} or indices"
            raise SpecError("position", what, suggest(position, FORMS))
    elif not all(isinstance(index, int) for index in (position if isinstance(position, Sequence) else (position,))):
        raise SpecError("position", f"found {position!r}, expected {', '.join(FORMS)} or indices", "give one of these")


def _operand(op: str, vector: Any, width: int) -> Tensor | SubspaceTensors | FeatureTensors | None:
    """The vector as the op takes it, float32. Raises SpecError."""
    wanted = OPS.get(op, "op").operand
    if wanted in ("state", "subspace and state"):
        remedy = "use patch with a vector, or run a spec"
        raise SpecError("op", f"{op} takes another prompt's states, and there is no other prompt here", remedy)
    if wanted == "edges":
        raise SpecError("op", f"{op} cuts attention between two positions, and there is one here", "run a spec")
    if wanted == "path":
        raise SpecError("op", f"{op} has a sender and receivers, and there is one place here", "run a spec")
    if wanted == "noise":
        raise SpecError(
            "op", f"{op} is drawn by query and token of a run, and there is none here", "use add with a vector"
        )
    if wanted == "none":
        if vector is not None:
            raise SpecError("vector", f"op {op} takes none", "leave it out")
        return None
    if vector is None:
        raise SpecError(
            "vector", f"is missing, op {op} needs a {wanted}", "give run.vectors[intervention, layer, task]"
        )
    if isinstance(vector, FeatureTensors):
        return _features(op, vector, width)
    kind = "vector" if isinstance(vector, Tensor) else "subspace" if _is_subspace(vector) else type(vector).__name__
    if kind != wanted:
        raise SpecError("vector", f"is a {kind}, op {op} needs a {wanted}", f"give a {wanted}, or another op")
    shape = tuple(vector.shape if isinstance(vector, Tensor) else vector.center.shape)
    if shape != (width,):
        raise SpecError(
            "vector", f"has shape {list(shape)}, the model's states there have [{width}]", "give one of these"
        )
    if isinstance(vector, Tensor):
        return vector.float()
    return SubspaceTensors(vector.left.float(), vector.right.float(), vector.center.float())


def _features(op: str, vector: FeatureTensors, width: int) -> FeatureTensors:
    """Raises SpecError for an op that takes none, features of another width, and those that need their dictionary."""
    wanted = OPS[op].operand
    if wanted == "vector" or "features" not in kinds_of(op):
        raise SpecError("vector", f"is of features, op {op} needs a {wanted}", f"give a {wanted}, or another op")
    if vector.decoder.shape[1] != width:
        what = f"has width {vector.decoder.shape[1]}, the model's states there have {width}"
        raise SpecError("vector", what, "give one of these")
    if vector.k and vector.whole is None:
        what = "is of a top-k dictionary, and a run keeps no whole encoder of one"
        raise SpecError("vector", what, "run a spec with vector: {sae: …}")
    return vector


def _is_subspace(vector: Any) -> bool:
    return all(isinstance(getattr(vector, part, None), Tensor) for part in ("left", "right", "center"))
