"""Texts written token by token on a cache equal teacher forcing: whole passes with plain hooks, one text at a time."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.engine.families import architecture_of
from patchboard.engine.generation import Begun, generated
from patchboard.engine.local import LocalEngine
from patchboard.engine.sampling import next_tokens, uniforms
from patchboard.ops import OPS, SubspaceTensors
from patchboard.plan.cells import OWN_STATE, Edit, StateRead, source_of
from patchboard.plan.suffix import positions_of
from patchboard.plan.texts import PlacedEdit
from patchboard.plan.unit import read_positions
from tests.hooks import _attach, _module, hooked_states, part_of
from tests.models import SIZES, random_model, unequal_prompts

NEW = 7
"""More than the window of tests.models: tokens leave it while the text grows."""
TIE = 1e-4
"""Of logits that are told apart: above what sums in another order give, far below what an edit does."""
QUICK = ("llama", "gpt2", "gemma2", "mistral", "opt", "mamba2")
FAMILIES = [pytest.param(name, {}, id=name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(SIZES)]
LAST, QUERY = json.dumps("last"), json.dumps("query")


def operands() -> dict:
    draw = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(48, 2, generator=draw))[0]
    return {
        "v": 3 * torch.randn(48, generator=draw),
        "part": 3 * torch.randn(12, generator=draw),
        "units": 3 * torch.randn(5, generator=draw),
        "plane": SubspaceTensors(basis, basis.T, torch.randn(48, generator=draw)),
    }


def cells(model, decode: bool) -> list[tuple[Edit, ...]]:
    """No edit, then edits of each kind of operand and place that the family has; of states only at the prompt."""
    lacks = architecture_of(model.config).lacks
    found = [
        (),
        (Edit("add", "resid_post", 1, LAST, 1.0, "v"),),
        (Edit("patch", "attn_out", 2, LAST, 0.7, "v"), Edit("scale", "resid_post", 3, QUERY, 2.0)),
        (Edit("ablate", "resid_pre", 1, json.dumps("all"), 1.0, "plane"),),
        (Edit("zero", "mlp_out", 2, LAST, 1.0), Edit("add", "resid_post", 0, LAST, 1.0, "v")),
    ]
    if not lacks("head") and getattr(model.config, "head_dim", 12) == 12:
        found.append((Edit("add", "head", 1, LAST, 1.0, "part", head=2),))
        found.append((Edit("patch", "v", 2, QUERY, 1.0, "part", head=1),))
    if not lacks("mlp_act"):
        found.append((Edit("patch", "mlp_act", 1, LAST, 1.0, "units", neurons=(3, 4, 9, 20, 33)),))
    if not decode:
        found.append(
            (Edit("resample", "resid_post", 1, QUERY, 1.0, "@other", read=StateRead(2, "resid_post", QUERY, True)),)
        )
        found.append((Edit("patch", "resid_post", 0, LAST, 1.0, OWN_STATE, read=StateRead(2, "resid_post", LAST)),))
    return [edits for edits in found if not any(lacks(edit.site) for edit in edits)]


def begun(prompt, edits, query, donor, drawn=None) -> Begun:
    placed, donors = [], []
    for i, edit in enumerate(edits):
        tokens = positions_of(prompt, edit.position, len(prompt.token_ids))
        source = donor if source_of(edit) else prompt if edit.operand == OWN_STATE else None
        order = sum((e.layer, e.site) == (edit.layer, edit.site) for e in edits[:i])
        taken = read_positions(source, edit, len(tokens)) if source else ()
        placed.append(PlacedEdit(edit, order, tokens, taken))
        donors.append(source)
    return Begun(prompt, tuple(placed), tuple(donors), query, torch.zeros(NEW) if drawn is None else drawn)


@torch.no_grad()
def forced_logits(model, text: Begun, new: tuple[int, ...], when: str) -> torch.Tensor:
    """[new token, vocab] of one whole pass without a cache over the prompt and its text, edits made by plain hooks."""
    prompt, handles = text.prompt, []
    tokens = (*prompt.token_ids, *new[:-1])
    fed = list(range(len(prompt.token_ids), len(tokens)))
    known = operands()
    try:
        for (edit, _, at, taken), donor in zip(text.edits, text.donors, strict=True):
            operand = known.get(edit.operand)
            if donor is not None:
                layer, site, *_ = edit.read or (edit.layer, edit.site)
                operand = hooked_states(model, donor.token_ids, layer, site)[list(taken)].float()
            handles.append((edit, operand, [*(at if when != "decode" else ()), *(fed if when != "prompt" else ())]))
        handles = [
            _attach(_module(model, edit.layer, edit.site), edit.site, changing(model, edit, operand, where))
            for edit, operand, where in handles
            if where
        ]
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
    finally:
        for handle in handles:
            if hasattr(handle, "remove"):
                handle.remove()
    return logits[len(prompt.token_ids) - 1 :]


def changing(model, edit, operand, where):
    strength = torch.tensor([[edit.strength]])

    def change(h):
        h = h.clone()
        own = part_of(model, edit.site, edit.head, h.shape[-1])
        chosen = list(edit.neurons) or slice(None)
        states = h[0, where, own].float()
        states[:, chosen] = OPS.get(edit.op, "op").apply(states[:, chosen], operand, strength)
        h[0, where, own] = states.to(h.dtype)
        return h

    return change


def check(model, text: Begun, new: tuple[int, ...], when: str) -> None:
    """Each token is the likeliest of the whole pass, ties aside."""
    logits = forced_logits(model, text, new, when)
    for row, token in zip(logits, new, strict=True):
        assert row.max() - row[token] < TIE, (text.edits, when)


VARIANTS = [
    pytest.param("falcon", {"alibi": True}, id="alibi"),
    pytest.param(
        "opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 32}, id="opt350", marks=pytest.mark.slow
    ),
]


@pytest.mark.parametrize(("family", "settings"), [*FAMILIES, *VARIANTS])
def test_greedy_texts_are_the_likeliest_of_whole_passes(family, settings):
    model = random_model(family, **settings)
    engine, ends = LocalEngine(model, build()), model.config.eos_token_id
    prompt, other = unequal_prompts()[1], unequal_prompts("B")[4]
    for when in ("prompt", "decode", "both"):
        texts = [
            begun(each, edits, query, other)
            for query, each in enumerate((prompt, turned(prompt)))
            for edits in cells(model, when != "prompt")
        ]
        found = generated(engine, texts, NEW, 0.0, when, engine.place(operands()))
        for text, new in zip(texts, found, strict=True):
            assert len(new) == NEW or new[-1] == ends
            check(model, text, new, when)
        assert len({new for new in found[: len(texts) // 2]}) > 1, "edits change the text"
        for n in (0, 1, len(texts) - 1):  # the batch changes nothing
            (alone,) = generated(engine, texts[n : n + 1], NEW, 0.0, when, engine.place(operands()))
            assert alone == found[n]


def turned(prompt):
    """Its tokens turned round, and twice more in front: a far longer prompt, with the same places behind."""
    front = prompt.token_ids * 2
    tokens = (*front, *prompt.token_ids[::-1])
    places = {name: tuple(at + len(front) for at in places) for name, places in prompt.positions.items()}
    return replace(prompt, token_ids=tokens, positions=places | {"all": range(len(tokens))})


def test_clean_greedy_texts_are_those_of_generate():
    """Of transformers itself, on prompts of unequal length, each alone there."""
    for family in ("llama", "gemma2", "gpt2"):
        model = random_model(family)
        engine = LocalEngine(model, build())
        for prompt in unequal_prompts()[:3]:
            (new,) = generated(engine, [begun(prompt, (), 0, prompt)], NEW, 0.0, "both", {})
            tokens = torch.tensor([prompt.token_ids])
            own = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=NEW, do_sample=False)
            assert tuple(own[0, tokens.shape[1] :].tolist()) == new


def test_a_text_ends_where_the_model_ends_it():
    model = random_model("llama")
    engine, prompt = LocalEngine(model, build()), unequal_prompts()[1]
    texts = [begun(prompt, edits, 0, prompt) for edits in ((), (Edit("add", "resid_post", 1, LAST, 1.0, "v"),))]
    before = generated(engine, texts, NEW, 0.0, "both", engine.place(operands()))
    model.generation_config.eos_token_id = [before[0][2]]
    found = generated(engine, texts, NEW, 0.0, "both", engine.place(operands()))
    assert found[0] == before[0][: before[0].index(before[0][2]) + 1]
    assert before[0][2] in before[1] or found[1] == before[1], "others go on"


def test_drawn_tokens_follow_the_distribution_and_the_text_alone():
    logits = torch.tensor([[0.0, 1.0, -1.0, float("-inf")]])
    drawn = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:-1]
    for temperature in (0.5, 1.0, 2.0):
        counts = next_tokens(logits.expand(len(drawn), -1), temperature, drawn).bincount(minlength=4)
        torch.testing.assert_close(counts / len(drawn), (logits[0] / temperature).softmax(-1), atol=1e-4, rtol=0)
    assert next_tokens(logits, 0.0, drawn[:1]).item() == 1
    some = uniforms(3, [("A", 0, 0), ("A", 0, 1), ("B", 0, 0), ("A", 1, 0)], 5)
    assert len({tuple(row.tolist()) for row in some}) == 4 and bool(((some >= 0) & (some < 1)).all())
    assert torch.equal(uniforms(3, [("B", 0, 0)], 5)[0], some[2]) and not torch.equal(
        uniforms(4, [("B", 0, 0)], 5)[0], some[2]
    )


def test_drawn_texts_do_not_depend_on_their_batch():
    """And a cell that edits nothing draws what the clean run draws."""
    model = random_model("llama")
    engine, prompt = LocalEngine(model, build()), unequal_prompts()[1]
    drawn = uniforms(0, [("A", 0, n) for n in range(3)], NEW)
    cells = ((), (Edit("add", "resid_post", 1, LAST, 0.0, "v"),), (Edit("add", "resid_post", 1, LAST, 1.0, "v"),))
    texts = [begun(prompt, edits, 0, prompt, row) for edits in cells for row in drawn]
    found = generated(engine, texts, NEW, 1.0, "both", engine.place(operands()))
    assert found[:3] == found[3:6] != found[6:] and len(set(found[:3])) == 3
    for n in (1, 8):
        assert generated(engine, texts[n : n + 1], NEW, 1.0, "both", engine.place(operands())) == found[n : n + 1]
