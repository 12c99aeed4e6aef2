"""Cut edges of attention: a plain forward pass with masks written out by hand, whichever way cells are computed."""

from __future__ import annotations

import json

import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.engine.families import ARCHITECTURES
from patchboard.engine.local import LocalEngine
from patchboard.engine.steps import largest_moves
from patchboard.plan.cells import ATTENTION, Edit
from patchboard.plan.model import Counterfactual
from patchboard.plan.packing import lay_out
from patchboard.plan.suffix import suffix_of
from tests.models import SIZES, WINDOW, random_model, shared_prompts, unequal_prompts

TOLERANCE = 1e-5
QUICK = ("llama", "gpt2", "gemma2")
FAMILIES = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in sorted(SIZES)
    if ARCHITECTURES[name].packs
]


def cut(layers, origin, to, heads=(), draw=-1) -> tuple[Edit, ...]:
    names = json.dumps(origin), json.dumps(to)
    return tuple(
        Edit("knock_out", ATTENTION, layer, names[1], 1.0, origin=names[0], heads=heads, draw=draw) for layer in layers
    )


COPIES = [
    Counterfactual(),
    Counterfactual(cut([1], "demo_outputs", "last")),
    Counterfactual(cut([0], "all", "last")),  # it keeps itself
    Counterfactual(cut([1, 2, 3], ["query", "before_answers"], "last")),
    Counterfactual(cut([2], "query", "last", heads=(0, 3))),
    Counterfactual(cut([1], "demo_inputs", "query") + cut([1], "query", "last", heads=(2,))),
    Counterfactual(cut([0, 3], "all", "all", heads=(1,))),
    Counterfactual(cut([1], "all", ["last", "answer"])),
    Counterfactual(cut([1], "demo_inputs", ["last", "query"]), target="B"),
    Counterfactual(cut([0, 1], "query", "last", draw=0)),
    Counterfactual((*cut([1], "query", "last"), Edit("zero", "head", 1, json.dumps("last"), 1.0, head=1))),
    Counterfactual((*cut([2], "query", "last"), Edit("scale", "resid_pre", 2, json.dumps("query"), 3.0))),
]


def tokens_of(prompt, position) -> list[int]:
    """Places of a position in the prompt, answers left out: its own reading."""
    names = position if isinstance(position, list) else [position]
    return sorted({at for name in names for at in prompt.positions.get(name, ())})


def masks_by_hand(model, prompt, length, layer, edits) -> torch.Tensor:
    """[1, heads, length, length] of one block, entry by entry."""
    config = model.config
    kinds = getattr(config, "layer_types", None)
    slides = kinds[layer] == "sliding_attention" if kinds else ARCHITECTURES[config.model_type].mask == "window"
    heads = config.num_attention_heads
    mask = torch.zeros(1, heads, length, length)
    for at in range(length):
        for other in range(length):
            if other > at or (slides and getattr(config, "sliding_window", None) and at - other >= WINDOW):
                mask[0, :, at, other] = torch.finfo(torch.float32).min
    answer = range(len(prompt.token_ids), length)
    for edit in (edit for edit in edits if edit.site == ATTENTION and edit.layer == layer):
        origin, to = json.loads(edit.origin), json.loads(edit.position)
        for at in tokens_of(prompt, to) + (list(answer) if "answer" in to else []):
            for other in tokens_of(prompt, origin):
                if other < at:
                    for head in edit.heads or range(heads):
                        mask[0, head, at, other] = torch.finfo(torch.float32).min
    return mask


@torch.no_grad()
def plain_logits(model, prompt, copy) -> torch.Tensor:
    """[answer token, vocab], each block given its own mask by a hook."""
    answer = prompt.right(copy.target)[0]
    tokens = prompt.token_ids + answer[:-1]
    row = ARCHITECTURES[model.config.model_type]
    handles = []
    for layer, block in enumerate(model.get_submodule(f"{row.decoder}.{row.blocks}")):
        mask = masks_by_hand(model, prompt, len(tokens), layer, copy.edits)

        def given(_, args, kwargs, mask=mask):
            swapped = [mask if isinstance(each, torch.Tensor) and each.dim() == 4 else each for each in args]
            return tuple(swapped), {
                name: mask if isinstance(each, torch.Tensor) and each.dim() == 4 else each
                for name, each in kwargs.items()
            }

        handles.append(block.register_forward_pre_hook(given, with_kwargs=True))
        for edit in (edit for edit in copy.edits if edit.layer == layer and edit.site != ATTENTION):
            where = tokens_of(prompt, json.loads(edit.position))

            def changed(_, args, edit=edit, where=where):
                h = args[0].clone()
                size = h.shape[-1] // model.config.num_attention_heads
                if edit.site == "head":
                    h[0, where, edit.head * size : (edit.head + 1) * size] = 0
                else:
                    h[0, where] *= edit.strength
                return (h, *args[1:])

            inside = block.get_submodule(row.attention_out) if edit.site == "head" else block
            handles.append(inside.register_forward_pre_hook(changed))
    whole = torch.zeros(1, 1, len(tokens), len(tokens)).masked_fill(
        torch.ones(len(tokens), len(tokens)).triu(1).bool(), torch.finfo(torch.float32).min
    )
    forms = {"full_attention": whole, "sliding_attention": whole.clone()}
    given_mask = forms if row.mask == "by_type" else whole
    try:
        # position ids, since some families count them on the mask, and none counts on four dimensions
        at = torch.arange(len(tokens))[None]
        logits = model(torch.tensor([tokens]), attention_mask=given_mask, position_ids=at, use_cache=False).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    return logits[prompt.last :]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_masks_by_hand(family, attention):
    model = random_model(family, attn_implementation="eager")
    if attention == "sdpa" and not model._supports_sdpa:
        pytest.skip("of a family that has none")
    by_hand, prompts = {}, [unequal_prompts()[i] for i in (0, 1, 4)]
    drawn = next(c for c, copy in enumerate(COPIES) if copy.edits and copy.edits[0].draw >= 0)
    for i, prompt in enumerate(prompts):
        for c, copy in enumerate(COPIES):
            if c != drawn and suffix_of(prompt, copy) is not None:
                by_hand[i, c] = plain_logits(model, prompt, copy)
    model.set_attn_implementation(attention)
    found, engine = {}, LocalEngine(model, build())
    for way in ("wavefront", "rows"):
        layout = lay_out(prompts, [-1] * len(prompts), COPIES, way)
        batch, result = engine.forward(layout, {}, {"logits": lambda logits, *_: logits})
        keys = [(read.prompt, read.copy, read.token) for read in layout.reads]
        opened = largest_moves(batch, result["moved"])
        found[way] = dict(zip(keys, result["scores"]["logits"], strict=True))
        assert result["moved"], "each edge tells whether it was open"
    assert found["wavefront"].keys() == found["rows"].keys() and len(by_hand) >= 30
    for (i, c, token), logits in found["rows"].items():
        torch.testing.assert_close(found["wavefront"][i, c, token], logits, atol=TOLERANCE, rtol=TOLERANCE)
        if c != drawn:
            torch.testing.assert_close(logits, by_hand[i, c][token], atol=TOLERANCE, rtol=TOLERANCE)
    apart = {c: max((found["rows"][i, c, 0] - found["rows"][i, 0, 0]).abs().max().item()
                    for i in range(len(prompts)) if (i, c, 0) in found["rows"])
             for c in range(1, len(COPIES))}  # fmt: skip
    # what a window shuts already is no edge to cut, and is told as such
    assert {c: far > 1e-4 for c, far in apart.items()} == {c: bool(opened[c] > 0) for c in apart}, (apart, opened)
    assert sum(far > 1e-4 for far in apart.values()) > len(COPIES) / 2


def test_a_shared_prefix_changes_nothing():
    """Edges from the copy and from the query's own run to tokens of the prefix."""
    model, prompts = random_model("llama"), shared_prompts()
    prefix = min(prompt.positions["query"][0] for prompt in prompts)
    assert len({prompt.token_ids[:prefix] for prompt in prompts}) == 1
    found = []
    for given in ({}, {"prefix": prefix, "together": 3}):
        layout = lay_out(prompts, [-1] * 3, COPIES[:7], "wavefront", **given)
        _, result = LocalEngine(model, build()).forward(layout, {}, {"logits": lambda logits, *_: logits})
        keys = [(read.prompt, read.copy, read.token) for read in layout.reads]
        found.append(dict(zip(keys, result["scores"]["logits"], strict=True)))
    assert found[0].keys() == found[1].keys()
    for key, logits in found[0].items():
        torch.testing.assert_close(found[1][key], logits, atol=TOLERANCE, rtol=TOLERANCE)
