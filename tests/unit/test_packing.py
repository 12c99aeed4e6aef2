"""Packing: every cell read once, masks as the literal definition says, and only suffixes computed."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchboard.engine.masks import packed_mask
from patchboard.plan.cells import OWN_STATE, Edit
from patchboard.plan.cost import cost_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.layout import PAD, Layout
from patchboard.plan.model import Counterfactual, Group, ModelPlan
from patchboard.plan.packing import Templates, lay_out
from patchboard.plan.packs import Budget, best_sequence, default_budget, halved, packs_of, suffix_lengths, token_work
from patchboard.plan.suffix import positions_of, shape_of, suffix_of
from patchboard.plan.whole_prompts import chunks
from patchboard.spec.sections import ModelSection
from patchboard.tasks.prompt import Prompt
from tests.models import unequal_prompts

NAMES = ("last", "query", "demo_outputs", "all", "answer")


def make_prompt(length: int, answer: tuple[int, ...], other: tuple[int, ...], mark: int = 0) -> Prompt:
    """All begin alike; ``mark`` tells prompts of one shape apart."""
    positions = {
        "last": (length - 1,),
        "query": tuple(range(max(0, length - 3), length - 1)),
        "demo_outputs": tuple(range(1, length // 2)),
        "all": tuple(range(length)),
    }
    tokens = (*range(100, 99 + length), 200 + mark)
    return Prompt("A", "text", "answer", tokens, answer, positions, (), {"B": other})


answers = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple)
prompts = st.builds(make_prompt, st.integers(1, 12), answers, answers, st.integers(0, 9))
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
copies = st.builds(Counterfactual, st.lists(edits, max_size=2).map(tuple), st.sampled_from(["", "B"])).filter(
    lambda copy: (
        not (copy.target and any(e.operand == OWN_STATE for e in copy.edits))
    )  # self is scored on its own answer
)
answers_of_one_shape = st.tuples(st.integers(1, 9), st.integers(1, 9)).map(lambda ends: ((3, ends[0]), (4, ends[1])))
alike = st.builds(lambda length, some: [make_prompt(length, *ends, mark=i) for i, ends in enumerate(some)],
                  st.integers(1, 9), st.lists(answers_of_one_shape, min_size=2, max_size=4))  # fmt: skip
"""Prompts that differ in tokens only, so that all but the first are stamped."""
groups = st.tuples(st.lists(prompts, min_size=1, max_size=4) | alike, st.lists(copies, min_size=1, max_size=6))
ways = st.sampled_from(["wavefront", "rows"])
LAYERS = 4


given_states = st.builds(lambda layer: Counterfactual((Edit("patch", "resid_post", layer, '"last"', 1.0, "@C"),)),
                         st.integers(0, 3))  # fmt: skip
"""Copies that take the last token's state of another prompt."""


@st.composite
def layouts(draw, ways=ways):
    """(layout, prompts, copies) in any way, with and without a shared prefix (all prompts begin alike), with and
    without states of another prompt of any length."""
    found, wanted = draw(groups)
    wanted = [*wanted, *draw(st.lists(given_states, max_size=2))]
    shortest = min(len(prompt.token_ids) for prompt in found)
    prefix, together = draw(st.integers(0, shortest - 1)), draw(st.integers(1, 3))
    donors = {"C": found[::-1]}
    return lay_out(found, [-1] * len(found), wanted, draw(ways), prefix, together, donors), found, wanted


def literal_mask(layout: Layout, window: int) -> np.ndarray:
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
                elif window and pq - pk >= window:
                    out[b, q, k] = False
                elif sq == sk:
                    out[b, q, k] = pk <= pq
                elif sk in (0, layout.homes[b, q]):
                    out[b, q, k] = pk < layout.starts[b, q]
    return out


def mask_of(layout: Layout, window: int = 0) -> np.ndarray:
    tensors = (torch.from_numpy(a) for a in (layout.segments, layout.homes, layout.positions, layout.starts))
    return (packed_mask(*tensors, torch.float32, window)[:, 0] == 0).numpy()


@settings(max_examples=60, deadline=None)
@given(layouts(), st.integers(0, 4))
def test_mask_is_the_literal_definition(made, window):
    layout, *_ = made
    assert np.array_equal(mask_of(layout, window), literal_mask(layout, window))


@settings(max_examples=60, deadline=None)
@given(layouts())
def test_a_copy_sees_exactly_its_own_prompt(made):
    """What a token attends to is, by position, 0 … its own position, each once, and the tokens of its own prompt."""
    layout, found, wanted = made
    mask = mask_of(layout)
    for b, q in zip(*np.nonzero(layout.segments != PAD), strict=True):
        seen = layout.positions[b, mask[b, q]]
        assert sorted(seen) == list(range(layout.positions[b, q] + 1))
    for read in layout.reads:
        suffix = suffix_of(found[read.prompt], wanted[read.copy])
        assert (
            suffix
            and history(layout, mask, read.row, read.col)
            == suffix.tokens[: len(suffix.tokens)][: layout.positions[read.row, read.col] + 1]
        )


def history(layout: Layout, mask: np.ndarray, row: int, col: int) -> tuple[int, ...]:
    """The tokens that a column attends to, by position."""
    seen = np.flatnonzero(mask[row, col])
    return tuple(layout.tokens[row, seen[np.argsort(layout.positions[row, seen])]].tolist())


@settings(max_examples=60, deadline=None)
@given(layouts(st.just("wavefront")))
def test_what_joins_takes_the_state_of_the_same_tokens(made):
    """A column's source is there from the first block on, unedited, and has seen the same tokens."""
    layout, *_ = made
    mask = mask_of(layout)
    edited = {(token.row, layout.segments[token.row, token.col]) for token in layout.edits}
    for join in layout.joins:
        for row, col in zip(*np.nonzero(layout.segments[:, join.start : join.stop] != PAD), strict=True):
            source = join.source[row, col]
            assert source < layout.first_width
            assert (row, layout.segments[row, source]) not in edited
            assert history(layout, mask, row, source) == history(layout, mask, row, join.start + col)
            assert layout.segments[row, join.start + col] > 0


@settings(max_examples=60, deadline=None)
@given(layouts(st.just("wavefront")))
def test_nothing_is_edited_before_it_joins(made):
    layout, *_ = made
    for token in layout.edits:
        enters = max((j.layer for j in layout.joins if j.start <= token.col < j.stop), default=0)
        assert enters <= token.edit.layer + (token.edit.site == "resid_post")


@settings(max_examples=60, deadline=None)
@given(layouts())
def test_every_computable_cell_is_read_once_a_token(made):
    layout, found, wanted = made
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


@settings(max_examples=50, deadline=None)
@given(groups, ways)
def test_edited_tokens_stand_where_the_spec_says(group, way):
    found, wanted = group
    layout = lay_out(found, [-1] * len(found), wanted, way)
    for token in layout.edits:
        at = layout.positions[token.row, token.col]
        prompt = next(
            p
            for i, p in enumerate(found)
            if any(r.prompt == i and r.clean_row == token.source[0] for r in layout.reads)
        )
        assert at in positions_of(prompt, token.edit.position, at + 1)
        assert token.edit.operand != OWN_STATE or layout.positions[token.source] == at
        if way == "rows":
            assert token.row != token.source[0], "the clean row must never be edited"
        else:
            assert layout.segments[token.row, token.col] > 0, "the clean run must never be edited"


def test_last_token_sweep_costs_one_token_a_cell():
    """S + L·C tokens in place of L·C·S, and, joining at their blocks, half of the copies' token-layers."""
    prompt = make_prompt(20, (5,), (6,))
    wanted = [Counterfactual()] + [
        Counterfactual((Edit("patch", "resid_post", layer, '"last"', 1.0, "v"),)) for layer in range(16)
    ]
    made = {way: lay_out([prompt], [-1], wanted, way) for way in ("wavefront", "rows")}
    assert made["wavefront"].computed_tokens == 20 + 16
    assert made["rows"].computed_tokens == 20 * 17
    assert made["wavefront"].token_layers(16) == 20 * 16 + sum(16 - layer - 1 for layer in range(16))


def test_answers_of_another_task_join_late_where_their_unedited_run_is_there():
    prompt = make_prompt(8, (5, 1), (6, 2, 3))
    edited = Counterfactual((Edit("patch", "resid_post", 2, '"last"', 1.0, "v"),), "B")
    alone = lay_out([prompt], [-1], [edited], "wavefront")
    beside = lay_out([prompt], [-1], [Counterfactual(target="B"), edited], "wavefront")
    assert alone.token_layers(LAYERS) == 9 * LAYERS + 3 * LAYERS
    assert beside.token_layers(LAYERS) == 9 * LAYERS + 2 * LAYERS + 3 * 1


def test_a_shared_prefix_is_computed_once():
    found = [make_prompt(length, (5,), (6,)) for length in (10, 12, 11, 10)]
    copies = [Counterfactual((Edit("patch", "resid_post", layer, '"last"', 1.0, "v"),)) for layer in range(LAYERS)]
    apart = lay_out(found, [-1] * 4, copies, "wavefront").computed_tokens
    shared = lay_out(found, [-1] * 4, copies, "wavefront", prefix=8, together=4).computed_tokens
    assert shared == apart - 3 * 8


def test_targets_of_one_token_share_a_copy():
    prompt = make_prompt(8, (5,), (6,))
    edit = Edit("patch", "resid_post", 1, '"last"', 1.0, "v")
    copies = [Counterfactual((edit,)), Counterfactual((edit,), "B"), Counterfactual(target="B")]
    layout = lay_out([prompt], [-1], copies, "wavefront")
    assert layout.computed_tokens == 8 + 1
    assert [read.target for read in layout.reads] == [5, 6, 6]


def test_integer_positions_outside_the_prompt_name_nothing():
    prompt = make_prompt(4, (5,), (6,))
    assert positions_of(prompt, "-4", 4) == (0,)
    assert positions_of(prompt, "4", 4) == positions_of(prompt, "-5", 4) == ()


def group_of(found: list[Prompt], wanted: list[Counterfactual], prefix: int = 0) -> Group:
    return Group("g", "A", 0, 0, tuple(found), (-1,) * len(found), tuple(wanted), 0, (), ("accuracy",), prefix=prefix)


@settings(max_examples=50, deadline=None)
@given(alike, st.lists(copies, min_size=1, max_size=6), ways)
def test_what_was_laid_out_before_changes_nothing(found, wanted, way):
    """A template of another pack's first prompt, with other tokens of the same shape, gives the layout of one's own."""
    known = Templates()
    lay_out(found[:1], [-1], wanted, way, known=known)
    before = len(known.units)
    stamped, own = (lay_out(found[1:], [-1] * (len(found) - 1), wanted, way, known=k) for k in (known, None))
    assert before == len(known.units) == 1
    for name in ("tokens", "positions", "segments", "homes", "starts"):
        assert np.array_equal(getattr(stamped, name), getattr(own, name))
    assert list(stamped.reads) == list(own.reads) and list(stamped.edits) == list(own.edits)


engines = st.sampled_from(["auto", "wavefront", "rows"])


@settings(max_examples=50, deadline=None)
@given(groups, engines, st.integers(1, 200), st.integers(1, 200), st.integers(0, 6))
def test_packs_cover_every_pair_once(group, engine, vocab, tokens, halvings):
    """Whatever the engine, the budget and how often packs are halved."""
    found, wanted = group
    facts = ModelFacts("llama", LAYERS, 8, vocab)
    made = group_of(found, wanted, min(len(p.token_ids) for p in found) - 1)
    packs = [
        small for pack in packs_of(made, facts, engine, Budget(tokens, vocab * 50)) for small in halved(pack, halvings)
    ]
    pairs = [(q, c) for pack in packs for q in pack.prompts for c in pack.copies]
    assert sorted(pairs) == [(q, c) for q in range(len(found)) for c in range(len(wanted))]
    assert len({pack.id for pack in packs}) == len(packs)


@settings(max_examples=50, deadline=None)
@given(groups, st.sets(st.integers(0, 3)), engines)
def test_prompts_of_a_pack_take_about_as_much(group, left_out, engine):
    """Those of one shape stand together, those with more to compute later; what is excluded is in no pack."""
    found, wanted = group
    found = [replace(p, excluded="why") if i in left_out else p for i, p in enumerate(found)]
    packs = list(packs_of(group_of(found, wanted), ModelFacts("llama", LAYERS, 8, 50), engine, Budget(tokens=1)))
    orders = {(pack.copies, pack.way): [] for pack in packs}
    for pack in packs:
        orders[pack.copies, pack.way] += pack.prompts
    usable = [i for i, prompt in enumerate(found) if not prompt.excluded]
    for order in orders.values():
        assert sorted(order) == usable
        work = [sum(suffix_lengths(found[i], wanted)) for i in order]
        shapes = [shape_of(found[i]) for i in order]
        assert work == sorted(work) and len([*groupby(shapes)]) == len(set(shapes))


def test_a_processors_packs_hold_fewer_prompts_but_no_fewer_copies():
    """Copies of one prompt share its clean run, so they are parted only where a pass could not hold them."""
    prompt = make_prompt(20, (5,), (6,))
    copies = [Counterfactual((Edit("patch", "resid_post", c % LAYERS, '"last"', 1.0, f"v{c}"),)) for c in range(3000)]
    few, many = group_of([prompt] * 40, copies[:30]), group_of([prompt] * 2, copies)
    wide, narrow = (ModelFacts("llama", LAYERS, width, 50, mlp=3 * width, sparse=True) for width in (1024, 32))
    sizes = {
        facts.width: [[len(pack.prompts) for pack in packs_of(group, facts, "wavefront", default_budget(facts, on_cpu))]
                      for group in (few, many) for on_cpu in (True, False)]
        for facts in (wide, narrow)
    }  # fmt: skip
    assert sizes[1024] == [[40], [40], [1, 1], [2]]
    assert sizes[32] == [[40], [40], [2], [2]]


@settings(max_examples=50, deadline=None)
@given(groups, engines)
def test_cost_counts_what_the_layouts_compute(group, engine):
    """The plan's count, with layouts of equal shape counted once, is that of the layouts themselves."""
    found, wanted = group
    facts = ModelFacts("llama", LAYERS, 8, 50)
    made = group_of(found, wanted)
    plan = ModelPlan(ModelSection(), facts, (made,), (), {}, (), {})
    cost = cost_of(plan, engine, Budget())
    counted = 0
    for pack in packs_of(made, facts, engine, Budget()):
        chosen = [wanted[c] for c in pack.copies]
        layout = lay_out([found[i] for i in pack.prompts], [-1] * len(pack.prompts), chosen, pack.way)
        counted += layout.token_layers(LAYERS)
    assert cost.token_layers == counted
    assert cost.bound_flops <= cost.flops
    if engine == "wavefront" and cost.packs == 1 and not any(copy.target for copy in wanted):
        assert cost.token_layers == cost.bound, "the wavefront computes nothing beyond the bound"


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 300), st.integers(64, 4096))
def test_the_best_sequence_costs_least_a_copy_token(fixed, width):
    """Against the literal sum over blocks, at longer and shorter sequences."""
    facts = ModelFacts("llama", 400, width, 50)

    def cost(length: int) -> float:
        copies = length - fixed
        there = [fixed + copies * block / facts.layers for block in range(facts.layers)]
        return sum(tokens * token_work(facts, tokens) for tokens in there) / copies

    best = best_sequence(facts, fixed)
    if 128 < best < 8192:
        assert cost(best) <= 1.001 * min(cost(fixed + int((best - fixed) * by)) for by in (0.5, 0.8, 1.25, 2))


@pytest.mark.parametrize("tokens", [1, 20, 45, 10_000])
def test_prompts_are_cut_into_batches_that_hold_so_many_tokens(tokens):
    prompts = unequal_prompts()
    found = list(chunks(prompts, tokens, [0]))
    assert [prompt for chunk in found for prompt in chunk] == list(prompts)
    widths = [max(len(p.token_ids) + len(p.answer_ids) for p in chunk) for chunk in found]
    assert all(len(chunk) == 1 or width * len(chunk) <= tokens for chunk, width in zip(found, widths, strict=True))
    assert len(found) == {1: len(prompts), 10_000: 1}.get(tokens, len(found))
