"""Packing: every cell read once, masks as the literal definition says, and only suffixes computed."""

from __future__ import annotations

import json

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interventions.engine.trace import packed_mask
from interventions.plan.cells import OWN_STATE, Edit
from interventions.plan.model import Copy, Group
from interventions.plan.packing import PAD, Layout, lay_out, positions_of, suffix_of
from interventions.plan.packs import packs_of, size_of
from tasks.prompts import Prompt

NAMES = ("last", "query", "demo_outputs", "all", "answer")


def make_prompt(length: int, answer: tuple[int, ...], other: tuple[int, ...]) -> Prompt:
    positions = {
        "last": (length - 1,),
        "query": tuple(range(max(0, length - 3), length - 1)),
        "demo_outputs": tuple(range(1, length // 2)),
        "all": tuple(range(length)),
    }
    tokens = tuple(range(100, 100 + length))
    return Prompt("A", "text", "answer", tokens, answer, positions, (), {"B": other})


answers = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple)
prompts = st.builds(make_prompt, st.integers(1, 12), answers, answers)
position = st.one_of(
    st.sampled_from(NAMES), st.integers(-4, 4), st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)
)
edits = st.builds(
    Edit,
    op=st.just("patch"),
    site=st.just("resid_post"),
    layer=st.integers(0, 3),
    position=position.map(json.dumps),
    strength=st.just(1.0),
    operand=st.sampled_from(["v", OWN_STATE]),
)
copies = st.builds(Copy, st.lists(edits, max_size=2).map(tuple), st.sampled_from(["", "B"])).filter(
    lambda copy: (
        not (copy.target and any(e.operand == OWN_STATE for e in copy.edits))
    )  # self is scored on its own answer
)
groups = st.tuples(st.lists(prompts, min_size=1, max_size=4), st.lists(copies, min_size=1, max_size=6))


def literal_mask(layout: Layout) -> np.ndarray:
    """[batch, query, key] allowed or not, token by token, straight from the definition."""
    batch, width = layout.tokens.shape
    out = np.zeros((batch, width, width), bool)
    for b in range(batch):
        for q in range(width):
            for k in range(width):
                sq, sk = layout.segments[b, q], layout.segments[b, k]
                pq, pk = layout.positions[b, q], layout.positions[b, k]
                if sq == PAD or sk == PAD:
                    out[b, q, k] = q == k
                elif sq == sk:
                    out[b, q, k] = pk <= pq
                elif sq > 0 and sk == 0:
                    out[b, q, k] = pk < layout.starts[b, q]
    return out


def mask_of(layout: Layout, window: int = 0) -> np.ndarray:
    tensors = (torch.from_numpy(a) for a in (layout.segments, layout.positions, layout.starts))
    return (packed_mask(*tensors, torch.float32, window)[:, 0] == 0).numpy()


@settings(max_examples=150, deadline=None)
@given(groups)
def test_mask_is_the_literal_definition(group):
    layout = lay_out(group[0], [-1] * len(group[0]), group[1], packed=True)
    assert np.array_equal(mask_of(layout), literal_mask(layout))


@settings(max_examples=150, deadline=None)
@given(groups)
def test_a_copy_sees_exactly_its_own_prompt(group):
    """What a token of a copy attends to is, by position, 0 … its own position, each once."""
    layout = lay_out(group[0], [-1] * len(group[0]), group[1], packed=True)
    mask = mask_of(layout)
    for b, q in zip(*np.nonzero(layout.segments != PAD), strict=True):
        seen = layout.positions[b, mask[b, q]]
        assert sorted(seen) == list(range(layout.positions[b, q] + 1))


@settings(max_examples=150, deadline=None)
@given(groups, st.booleans())
def test_every_computable_cell_is_read_once_a_token(group, packed):
    found, wanted = group
    layout = lay_out(found, [-1] * len(found), wanted, packed)
    reads: dict[tuple[int, int], list[int]] = {}
    for read in layout.reads:
        reads.setdefault((read.prompt, read.copy), []).append(read.target)
        position = layout.positions[read.row, read.col]
        own = found[read.prompt]
        assert position == own.last + len(reads[read.prompt, read.copy]) - 1
    for i, prompt in enumerate(found):
        for c, copy in enumerate(wanted):
            suffix = suffix_of(prompt, copy)
            assert reads.get((i, c), []) == ([] if suffix is None else list(suffix.answer))


@settings(max_examples=100, deadline=None)
@given(groups, st.booleans())
def test_edited_tokens_stand_where_the_spec_says(group, packed):
    found, wanted = group
    layout = lay_out(found, [-1] * len(found), wanted, packed)
    for token in layout.edits:
        at = layout.positions[token.row, token.col]
        prompt = next(
            p for i, p in enumerate(found) if any(r.prompt == i and r.clean[0] == token.source[0] for r in layout.reads)
        )
        assert at in positions_of(prompt, token.edit.position, at + 1)
        assert token.edit.operand != OWN_STATE or layout.positions[token.source] == at
        if packed:
            assert layout.segments[token.row, token.col] > 0, "the clean run must never be edited"
        else:
            assert token.row != token.source[0], "the clean row must never be edited"


def test_last_token_sweep_costs_one_token_a_cell():
    """S + L·C tokens in place of L·C·S."""
    prompt = make_prompt(20, (5,), (6,))
    wanted = [Copy()] + [Copy((Edit("patch", "resid_post", layer, '"last"', 1.0, "v"),)) for layer in range(16)]
    assert lay_out([prompt], [-1], wanted, packed=True).computed_tokens == 20 + 16
    assert lay_out([prompt], [-1], wanted, packed=False).computed_tokens == 20 * 17


def test_targets_of_one_token_share_a_copy():
    prompt = make_prompt(8, (5,), (6,))
    edit = Edit("patch", "resid_post", 1, '"last"', 1.0, "v")
    layout = lay_out([prompt], [-1], [Copy((edit,)), Copy((edit,), "B"), Copy(target="B")], packed=True)
    assert layout.computed_tokens == 8 + 1
    assert [read.target for read in layout.reads] == [5, 6, 6]


def test_integer_positions_outside_the_prompt_name_nothing():
    prompt = make_prompt(4, (5,), (6,))
    assert positions_of(prompt, "-4", 4) == (0,)
    assert positions_of(prompt, "4", 4) == positions_of(prompt, "-5", 4) == ()


@settings(max_examples=100, deadline=None)
@given(groups, st.booleans(), st.integers(1, 200))
def test_packs_cover_every_pair_once(group, packed, vocab):
    found, wanted = group
    made = Group("g", "A", 0, 0, tuple(found), (-1,) * len(found), tuple(wanted), 0, (), ("accuracy",))
    pairs = [
        (q, c)
        for pack in packs_of(made, size_of(made), vocab * 100_000, packed)
        for q in pack.prompts
        for c in pack.copies
    ]
    assert sorted(pairs) == [(q, c) for q in range(len(found)) for c in range(len(wanted))]
