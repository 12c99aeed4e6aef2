"""Attention in parts is attention with the dense mask, on any layout; it is registered for one pass and no longer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from patchboard.embedded.tokenizer import build
from patchboard.engine import block_sparse
from patchboard.engine.batch import Batch, make_batch
from patchboard.engine.block_sparse import BlockSparse, is_block_sparse
from patchboard.engine.local import LocalEngine
from patchboard.engine.masks import packed_mask
from patchboard.errors import ModelError
from patchboard.plan.layout import PAD
from tests.models import random_model
from tests.unit.test_packing import layouts

LOWEST = torch.finfo(torch.float32).min


batches = layouts(st.just("wavefront")).map(lambda made: make_batch(made[0])).filter(is_block_sparse)


def dense(batch: Batch, window: int) -> torch.Tensor:
    return packed_mask(batch.segments, batch.homes, batch.positions, batch.starts, torch.float32, window)


def widths(batch: Batch) -> list[int]:
    return [batch.first_width, *(join.stop for _, join in sorted(batch.joins.items()))]


@settings(max_examples=60, deadline=None)
@given(batches, st.sampled_from([0, 2, 5]))
def test_the_mask_holds_what_the_dense_one_does(batch, window):
    """Token by token: trunk columns as they are, the others counted from the beginning of the token's own segment."""
    sparse = BlockSparse(batch)
    mask, whole = sparse.mask(torch.float32, window)[:, 0].numpy() == 0, dense(batch, window)[:, 0].numpy() == 0
    segments, trunk = batch.segments.numpy(), batch.first_width
    for b, q in zip(*np.nonzero(segments != PAD), strict=True):
        assert np.array_equal(mask[b, q, :trunk], whole[b, q, :trunk])
        own = np.flatnonzero(segments[b] == segments[b, q]) if q >= trunk else np.array([], int)
        assert np.array_equal(np.flatnonzero(mask[b, q, trunk:]), np.flatnonzero(whole[b, q][own]))
        assert not np.delete(whole[b, q], [*range(trunk), *own]).any()


@settings(max_examples=50, deadline=None)
@given(batches, st.sampled_from([0, 3]), st.sampled_from([1, 2]), st.sampled_from(["kernel", "formula"]))
def test_the_attention_is_that_of_the_dense_mask(batch, window, shared, how):
    """At every width that the sequence has on its way through the blocks."""
    sparse, whole = BlockSparse(batch), dense(batch, window)
    mask, generator = sparse.mask(torch.float32, window), torch.Generator().manual_seed(0)
    for width in widths(batch):
        q, k, v = (
            torch.randn(len(batch.tokens), heads, width, 8, generator=generator)
            for heads in (4, 4 // shared, 4 // shared)
        )
        with pytest.MonkeyPatch.context() as patch:
            if how == "formula":  # what other devices compute
                patch.setattr(block_sparse, "_with_lse", block_sparse._by_formula)
            got, _ = sparse.attention(None, q, k, v, mask[..., :width, :width], scaling=0.3)
        k, v = (x.repeat_interleave(shared, 1) for x in (k, v))
        expected = scaled_dot_product_attention(q, k, v, whole[..., :width, :width], scale=0.3).transpose(1, 2)
        real = (batch.segments[:, :width] != PAD).nonzero(as_tuple=True)
        torch.testing.assert_close(got[real], expected[real], atol=2e-6, rtol=2e-6)
        assert got.isfinite().all()


def test_the_kernel_gives_its_log_sum_exp():
    """It is no public function of torch, so both of its values are held against the formula."""
    q, k, v = (torch.randn(2, 3, n, 8) for n in (5, 7, 7))
    mask = torch.zeros(2, 1, 5, 7)
    mask[:, :, :, 4:] = LOWEST
    for got, expected in zip(block_sparse._with_lse(q, k, v, mask, 0.3), literal(q, k, v, mask, 0.3), strict=True):
        torch.testing.assert_close(got, expected)


def literal(q, k, v, mask, scale):
    scores = torch.einsum("bhtd,bhfd->bhtf", q, k) * scale + mask
    return scores.softmax(-1) @ v, scores.exp().sum(-1).log()


@pytest.mark.parametrize("fails", [False, True])
def test_it_is_registered_for_one_pass(fails):
    model, before = random_model("llama"), set(ALL_ATTENTION_FUNCTIONS.valid_keys())
    sparse = BlockSparse(some_batch())
    try:
        with sparse.registered(model):
            assert model.config._attn_implementation not in before
            assert set(ALL_ATTENTION_FUNCTIONS.valid_keys()) - before == {model.config._attn_implementation}
            if fails:
                raise MemoryError
    except MemoryError:
        pass
    assert model.config._attn_implementation == "sdpa"
    assert set(ALL_ATTENTION_FUNCTIONS.valid_keys()) == before


def some_batch() -> Batch:
    """Two tokens, and a copy of the second that joins at block 1."""
    from patchboard.plan.cells import Edit
    from patchboard.plan.model import Counterfactual
    from patchboard.plan.packing import lay_out
    from tests.unit.test_packing import make_prompt

    prompt = make_prompt(2, (3,), (4,))
    copy = Counterfactual((Edit("patch", "resid_pre", 1, '"last"', 1.0, "v"),))
    return make_batch(lay_out([prompt], [-1], [Counterfactual(), copy], "wavefront"))


def test_models_of_another_attention_keep_the_dense_mask():
    assert LocalEngine(random_model("llama"), build()).sparse
    assert not LocalEngine(random_model("llama", attn_implementation="eager"), build()).sparse


def test_what_changes_attention_is_refused():
    sparse, q = BlockSparse(some_batch()), torch.zeros(1, 1, 3, 4)
    with pytest.raises(ModelError, match="has softcap, which packs of this process leave out; take sparse=True out"):
        sparse.attention(None, q, q, q, sparse.mask(torch.float32), softcap=50.0)
