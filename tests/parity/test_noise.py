"""Noise: drawn by query and token alone, in units read from the weights; corrupting and restoring as identities."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.engine.families import ARCHITECTURES, architecture_of, head_dim_of
from patchboard.engine.local import LocalEngine
from patchboard.engine.noise import standard_normal
from patchboard.plan.cells import OWN_STATE, Edit
from patchboard.plan.model import Counterfactual
from patchboard.plan.packing import lay_out
from patchboard.plan.suffix import positions_of
from tests.hooks import hooked_logits
from tests.models import SIZES, random_model, shared_prompts, unequal_prompts

TOLERANCE = 1e-5
QUICK = ("llama", "gpt2", "gemma2")
FAMILIES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(SIZES)]
QUERY, ALL = json.dumps("query"), json.dumps("all")


def noise(layer: int, site: str, position: str, seed: int, strength: float = 3.0, head: int = -1) -> Edit:
    return Edit("noise", site, layer, position, strength, head=head, seed=seed)


def clean(layer: int, position: str) -> Edit:
    return Edit("patch", "resid_pre", layer, position, 1.0, OWN_STATE)


CORRUPTED = noise(0, "resid_pre", QUERY, 77)
COPIES = [
    Counterfactual(),
    Counterfactual((CORRUPTED,)),
    Counterfactual((CORRUPTED, clean(0, QUERY))),  # restored where it was corrupted
    Counterfactual((CORRUPTED, clean(2, ALL))),  # restored whole in the middle
    Counterfactual((CORRUPTED, clean(2, QUERY))),
    Counterfactual((noise(1, "head", json.dumps(["last", "query"]), 5, head=2), noise(2, "mlp_out", ALL, 6, 0.5))),
    Counterfactual((noise(0, "resid_pre", QUERY, 78),)),
    Counterfactual((replace(noise(1, "mlp_act", QUERY, 9), neurons=(3, 8, 40)),)),
    Counterfactual((CORRUPTED,), "B"),
]


def seed_by_hand(own: int, query: int, position: int) -> int:
    for part in (query, position):
        own = (own ^ part) * 0x5BD1E995 % 2**32
        own ^= own >> 15
    return own


def unit_by_hand(model) -> float:
    """From the weights, all of them, and what the family is known to multiply them by."""
    family, config = model.config.model_type, model.config
    factor = math.sqrt(config.hidden_size) if family.startswith("gemma") else getattr(config, "embedding_multiplier", 1)
    return model.get_input_embeddings().weight.double().std(correction=0).item() * factor


def as_added(model, prompt, copy, query: int) -> tuple[Counterfactual, dict]:
    """The copy with each noise as vectors that are added, drawn here."""
    edits, vectors = [], {}
    for n, edit in enumerate(copy.edits):
        if edit.op == "noise":
            length = len(prompt.token_ids) + len(prompt.right(copy.target)[0]) - 1
            size = model.config.hidden_size if edit.head < 0 else head_dim_of(model.config)
            seeds = [seed_by_hand(edit.seed, query, at) for at in positions_of(prompt, edit.position, length)]
            vectors[f"n{n}"] = unit_by_hand(model) * torch.stack(
                [torch.randn(len(edit.neurons) or size, generator=torch.Generator().manual_seed(seed),
                             dtype=torch.float64) for seed in seeds]
            ).float()  # fmt: skip
            edit = replace(edit, op="add", operand=f"n{n}", seed=-1)
        edits.append(edit)
    return replace(copy, edits=tuple(edits)), vectors


def logits_of(engine, prompts, way, queries=None, **layout):
    laid = lay_out(prompts, [-1] * len(prompts), COPIES, way, **layout)
    queries = np.arange(len(prompts)) if queries is None else np.array(queries)
    laid.queries = queries
    _, result = engine.forward(laid, {}, {"logits": lambda logits, *_: logits})
    keys = [(int(queries[read.prompt]), read.copy, read.token) for read in laid.reads]
    return dict(zip(keys, result["scores"]["logits"], strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_is_the_same_in_every_way_and_by_hand(family):
    model = random_model(family)
    lacks = architecture_of(model.config).lacks
    copies = [c for c in COPIES if not any(lacks(edit.site) for edit in c.edits)]
    engine, prompts = LocalEngine(model, build()), unequal_prompts()[:4]
    for way in ("wavefront", "rows") if ARCHITECTURES[family].packs else ("rows",):
        layout = lay_out(prompts, [-1] * len(prompts), copies, way)
        queries = [20, 22, 21, 25]
        layout.queries = np.array(queries)
        _, result = engine.forward(layout, {}, {"logits": lambda logits, *_: logits})
        found = {(r.prompt, r.copy, r.token): x for r, x in zip(layout.reads, result["scores"]["logits"], strict=True)}
        for (i, c, token), got in found.items():
            if token == 0:
                by_hand = hooked_logits(model, prompts[i], *as_added(model, prompts[i], copies[c], queries[i]))
            torch.testing.assert_close(got, by_hand[token], atol=TOLERANCE * 5, rtol=TOLERANCE * 5)
        far = {c: max(float((x - found[i, 0, 0]).abs().max()) for (i, n, t), x in found.items() if n == c and t == 0)
               for c in range(1, 5)}  # fmt: skip
        assert far[1] > 1e-2 and far[4] > 1e-3, "noise moves, and a restored span in the middle is no whole state"
        assert far[2] < TOLERANCE and far[3] < TOLERANCE, "restored where it was corrupted, or whole: the clean run"


def test_noise_depends_on_the_query_and_not_on_the_pack():
    model, prompts = random_model("llama"), unequal_prompts()[:4]
    engine = LocalEngine(model, build())
    whole = logits_of(engine, prompts, "wavefront")
    apart = logits_of(engine, prompts[:1], "rows") | logits_of(engine, prompts[:0:-1], "rows", [3, 2, 1])
    assert whole.keys() == apart.keys()
    for key, logits in whole.items():
        torch.testing.assert_close(logits, apart[key], atol=TOLERANCE, rtol=TOLERANCE)
    moved = logits_of(engine, prompts[1:], "rows", [2, 3, 4])
    assert (moved[2, 1, 0] - whole[1, 1, 0]).abs().max() > 1e-3, "the next query has noise of its own"
    assert (whole[0, 1, 0] - whole[0, 6, 0]).abs().max() > 1e-3, "another seed, other noise"


def test_noise_is_the_same_where_demonstrations_are_shared():
    model, prompts = random_model("llama"), shared_prompts()
    engine, prefix = LocalEngine(model, build()), len(prompts[0].token_ids) - len(prompts[0].positions["query"]) - 1
    shared = logits_of(engine, prompts, "wavefront", prefix=prefix, together=2)
    alone = logits_of(engine, prompts, "rows")
    for key, logits in shared.items():
        torch.testing.assert_close(logits, alone[key], atol=TOLERANCE, rtol=TOLERANCE)


def test_draws_are_standard_normal_and_independent():
    seeds = torch.tensor([seed_by_hand(5, query, at) for query in range(60) for at in range(20)])
    drawn = standard_normal(seeds, 500)
    assert len(seeds.unique()) == len(seeds)
    count = drawn.numel()  # 600,000: each bound is over 4 standard errors
    assert abs(drawn.mean()) < 4 / count**0.5 and abs(drawn.var() - 1) < 4 * (2 / count) ** 0.5
    assert abs((drawn**4).mean() - 3) < 4 * (96 / count) ** 0.5
    pairs = torch.corrcoef(drawn)[~torch.eye(len(drawn), dtype=torch.bool)]
    assert abs(pairs.var() * 500 - 1) < 0.02 and pairs.abs().max() < 6 / 500**0.5, "rows are as good as independent"
    again = standard_normal(torch.tensor([int(seeds[3]), 9, int(seeds[3])]), 500)
    assert torch.equal(again[0], again[2]) and torch.equal(again[0], drawn[3])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_unit_is_the_deviation_of_the_embeddings(family):
    """Whatever the family multiplies them by, and without positions that it adds."""
    model = random_model(family)
    engine = LocalEngine(model, build())
    assert float(engine.noise_unit()) == pytest.approx(unit_by_hand(model), rel=1e-4)
    half = random_model(family).bfloat16()
    assert float(LocalEngine(half, build()).noise_unit()) == pytest.approx(unit_by_hand(model), rel=2e-2)
