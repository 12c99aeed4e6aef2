"""wavefront, without a dense mask and with one, = rows = hooks, on every family, but for float32's rounding."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.engine.block_sparse import BlockSparse
from patchboard.engine.families import ARCHITECTURES, head_dim_of
from patchboard.engine.local import LocalEngine
from patchboard.ops import OPS, FeatureTensors, SubspaceTensors
from patchboard.ops.feature_tensors import WholeEncoder
from patchboard.plan.cells import OWN_STATE, STATE, Edit, StateRead
from patchboard.plan.layout import TopReads, answer_starts
from patchboard.plan.model import Counterfactual
from patchboard.plan.packing import lay_out
from patchboard.plan.suffix import positions_of
from patchboard.spec.sites import HEADED, NEURAL, SITES
from tests.hooks import hooked_logits
from tests.models import SIZES, random_model, shared_prompts, unequal_prompts

TOLERANCE = 1e-5
"""Logit difference allowed between two ways of computing one cell: sums in another order, in float32."""

STREAMS = tuple(site for site in SITES if site not in (*HEADED, *NEURAL))
WAYS = ("wavefront", "dense", "rows")
"""dense: a wavefront whose attention goes over all pairs of tokens, as on a host."""
TOP = 5
"""Likeliest tokens that are kept."""
DONOR = STATE + "B"
LAST = json.dumps("last")
POSITIONS = ("last", "query", "demo_outputs", "before_answers", "demo_inputs", "all", ["last", "answer"], 1, -2)


def operands(width: int, head_dim: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(width, 3, generator=generator))
    of_head, _ = torch.linalg.qr(torch.randn(head_dim, 2, generator=generator))
    oblique = torch.randn(2, width, generator=generator)
    return {
        "v": torch.randn(width, generator=generator),
        "w": torch.randn(width, generator=generator),
        "h": torch.randn(head_dim, generator=generator),
        "s": SubspaceTensors(basis, basis.T.contiguous(), torch.randn(width, generator=generator)),
        "t": SubspaceTensors(torch.randn(width, 2, generator=generator) / width, oblique, torch.zeros(width)),
        "u": SubspaceTensors(of_head, of_head.T.contiguous(), torch.zeros(head_dim)),
        "f": features(width, generator, "none", 0),
        "g": features(width, generator, "layer_norm", 5),
    }


def features(width: int, generator: torch.Generator, norm: str, k: int) -> FeatureTensors:
    """Three features of a dictionary of twelve, of which ``k`` are active at once (0: any number)."""
    encoder, decoder = torch.randn(width, 12, generator=generator), torch.randn(12, width, generator=generator)
    bias, threshold, target = torch.rand(3, 12, generator=generator).unbind()
    numbers = torch.tensor([7, 0, 4])
    whole = WholeEncoder(encoder, bias, k) if k else None
    return FeatureTensors(
        encoder[:, numbers], bias[numbers], threshold[numbers], decoder[numbers] / width,
        torch.randn(width, generator=generator), target[numbers], numbers, norm, k=k, whole=whole,
    )  # fmt: skip


def copies() -> list[Counterfactual]:
    """Every op, site, layer and position at least once, edits that compose, and targets of task B."""
    operand = {
        "vector": "v", "subspace": "s", "features": "f", "none": "", "state": DONOR, "subspace and state": DONOR,
    }  # fmt: skip
    out = [Counterfactual(), Counterfactual(target="B")]
    # test_knock_out, test_paths and test_noise have the others
    for name, op in ((name, op) for name, op in OPS.items() if op.operand not in ("edges", "path", "noise")):
        for layer in range(4):
            site = STREAMS[layer] if name != "patch" else "resid_post"
            subspace = "s" if op.operand == "subspace and state" else ""
            out.append(
                Counterfactual((Edit(name, site, layer, '"last"', 0.7, operand[op.operand], subspace=subspace),))
            )
    out += [Counterfactual((Edit("patch", "resid_post", 1, json.dumps(p), 1.0, "w"),)) for p in POSITIONS]
    out += [Counterfactual((Edit("patch", "resid_pre", 2, '"last"', 1.0, "v"),), "B")]
    out += [Counterfactual((Edit("patch", "resid_post", 2, '["last", "answer"]', 1.0, "v"),), "B")]
    out += [
        Counterfactual((Edit("patch", site, 2, json.dumps(p), 1.0, OWN_STATE),))
        for site in STREAMS
        for p in ("last", "all")
    ]
    out += [
        Counterfactual((Edit("resample", site, 1, json.dumps(p), 1.0, DONOR, head=head),))
        for site, head in (("resid_post", -1), ("head", 2), ("v", 1), ("mlp_act", -1))
        for p in ("query", "demo_outputs", ["last", "demo_inputs"])
    ]
    out += [
        Counterfactual((Edit("swap", site, layer, json.dumps(p), 1.0, operand, head=head, read=read, subspace=space),))
        for site, layer, head, space in (("resid_post", 1, -1, "s"), ("resid_post", 1, -1, "t"), ("head", 2, 2, "u"))
        for operand, p, read in (
            (DONOR, "query", None),
            (OWN_STATE, "last", None),
            (DONOR, "last", StateRead(3, site, LAST)),
        )
    ]
    out += [
        Counterfactual((Edit(op, "head", layer, json.dumps(p), 1.0, operand, head=head),))
        for layer, head in ((0, 1), (1, 3), (2, 0), (3, 2))
        for op, operand, p in (("patch", "h", "last"), ("zero", "", ["last", "query"]), ("patch", OWN_STATE, "all"))
    ]
    out += [
        Counterfactual(
            (Edit("add", "resid_post", 1, '"last"', 1.0, "v"), Edit("ablate", "resid_post", 1, '"last"', 1.0, "s"))
        ),
        Counterfactual(
            (Edit("ablate", "resid_post", 1, '"last"', 1.0, "s"), Edit("add", "resid_post", 1, '"last"', 1.0, "v"))
        ),
        Counterfactual((Edit("add", "resid_post", 0, '"query"', 1.0, "v"), Edit("zero", "attn_out", 3, '"last"', 1.0))),
    ]
    out += [
        Counterfactual((Edit(op, "resid_post", layer, json.dumps(p), 0.8, name),))
        for op in ("ablate", "clamp_features")
        for layer, p in ((1, "last"), (2, "all"))
        for name in ("f", "g")
    ]
    # layers {onwards: …} and {upto: …}
    out += [
        Counterfactual(tuple(Edit("ablate", "resid_post", layer, json.dumps(p), 1.0, "s") for layer in blocks))
        for p in ("last", "all")
        for blocks in (range(1, 4), range(2, 4), range(2), range(4))
    ]
    return out


def logits_of(logits, target, foil, clean):
    """A scorer that brings all logits home."""
    return logits


# one of each kind in the default suite: grouped heads, learned positions, soft caps and windows, no attention
QUICK = ("llama", "gpt2", "gemma2", "mamba2")
FAMILIES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(SIZES)]


@pytest.fixture(scope="module", params=FAMILIES)
def computed(request):
    model = random_model(request.param)
    engine = LocalEngine(model, build())
    architecture = ARCHITECTURES[request.param]
    prompts, donors = unequal_prompts(), unequal_prompts("B")
    wanted = [copy for copy in copies() if not any(architecture.lacks(edit.site) for edit in copy.edits)]
    made = operands(model.config.hidden_size, head_dim_of(model.config))
    found = {}
    assert engine.sparse == architecture.sparse
    ways = [way for way in WAYS if {"wavefront": architecture.packs, "dense": engine.sparse}.get(way, True)]
    for way in ways:
        engine.sparse = architecture.sparse and way != "dense"
        packed = "rows" if way == "rows" else "wavefront"
        layout = lay_out(prompts, [-1] * len(prompts), wanted, packed, donors={"B": donors})
        starts = answer_starts(layout.reads.prompt, layout.reads.copy)
        layout.top = TopReads(TOP, 2, starts, layout.reads.prompt[starts])
        with counted() as calls:
            _, result = engine.forward(layout, engine.place(made), {"logits": logits_of})
        assert calls[0] == (model.config.num_hidden_layers if engine.sparse and way == "wavefront" else 0)
        found[way] = (layout, result["scores"]["logits"], result["top"])
    return model, prompts, donors, wanted, found, Oracle(model, prompts, wanted, made, donors)


@contextmanager
def counted() -> Iterator[list[int]]:
    """How often blocks had their attention computed without the pairs that are masked out."""
    calls, attention = [0], BlockSparse.attention

    def counting(self, *args, **kwargs):
        calls[0] += 1
        return attention(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlockSparse, "attention", counting)
        yield calls


class Oracle:
    """Logits by plain hooks, [answer token, vocab] of a prompt and copy, each computed once for all ways."""

    def __init__(self, model, prompts, wanted, made, donors=None):
        self.model, self.prompts, self.wanted, self.made = model, prompts, wanted, made
        self.donors = donors
        self.known: dict[tuple[int, int], torch.Tensor] = {}

    def of(self, prompt: int, copy: int) -> torch.Tensor:
        if (prompt, copy) not in self.known:
            donors = {"B": self.donors[prompt]} if self.donors else {}
            found = hooked_logits(self.model, self.prompts[prompt], self.wanted[copy], self.made, donors)
            self.known[prompt, copy] = found
        return self.known[prompt, copy]

    def hold(self, reads, logits, tolerance: float) -> int:
        """Every logit equals; as many answer tokens were read as there are. Returns how many."""
        count = Counter()
        for read, got in zip(reads, logits, strict=True):
            key = (read.prompt, read.copy)
            torch.testing.assert_close(got, self.of(*key)[count[key]], atol=tolerance, rtol=tolerance)
            count[key] += 1
        assert all(len(self.known[key]) == read for key, read in count.items())
        return count.total()


def test_every_family_is_tested():
    assert set(SIZES) == set(ARCHITECTURES)


@pytest.mark.parametrize("way", WAYS)
def test_equals_hooks(computed, way):
    model, *_, found, oracle = computed
    if way not in found:
        pytest.skip("a family that does not pack, or always with a dense mask")
    layout, logits, _ = found[way]
    # Mamba-2's scan multiplies exponentials of cumulative sums: 1.8e-5 was seen with two threads
    tolerance = TOLERANCE if model.config.model_type != "mamba2" else 10 * TOLERANCE
    assert oracle.hold(layout.reads, logits, tolerance) > 200


@pytest.mark.parametrize("way", WAYS)
def test_top_tokens_are_those_of_hooks(computed, way):
    """Of every second prompt, of each answer's first token; the same ones where logits are further apart than
    rounding."""
    model, *_, found, oracle = computed
    if way not in found:
        pytest.skip("a family that does not pack")
    layout, logits, top = found[way]
    kept = [i for i, read in enumerate(layout.reads) if read.token == 0 and read.prompt % 2 == 0]
    assert len(top["ids"]) == len(kept) > 100
    tolerance = 10 * (TOLERANCE if model.config.model_type != "mamba2" else 10 * TOLERANCE)
    apart = 0
    for read, own, ids, values, answer, rank in zip(
        [list(layout.reads)[i] for i in kept], logits[kept], *(top[n] for n in ("ids", "logprobs", "answer", "rank")),
        strict=True,
    ):  # fmt: skip
        # of the engine's own logits to the bit, ties included
        numbers = own.tolist()
        expected = sorted(range(len(numbers)), key=lambda token: (-numbers[token], token))
        assert ids.tolist() == expected[:TOP]
        assert rank == 1 + sum(number > numbers[read.target] for number in numbers)
        # of the hooks' within rounding
        by_hooks = oracle.of(read.prompt, read.copy)[0].log_softmax(-1)
        torch.testing.assert_close(values, by_hooks.sort(descending=True).values[:TOP], atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(values, by_hooks[ids], atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(answer, by_hooks[read.target], atol=tolerance, rtol=tolerance)
        ranked = by_hooks.sort(descending=True)
        if (ranked.values[: TOP + 1].diff().abs() > 2 * tolerance).all():
            apart += 1
            assert ids.tolist() == ranked.indices[:TOP].tolist()
    assert apart > len(kept) / 2


def test_donors_of_another_shape_are_left_out(computed):
    """A resample edit is computed exactly where the donor has as many tokens of the position; not all do here."""
    _, prompts, donors, wanted, found, _ = computed
    for layout, *_ in found.values():
        read = {(r.prompt, r.copy) for r in layout.reads}
        seen = {True: 0, False: 0}
        for c, copy in enumerate(wanted):
            for edit in (edit for edit in copy.edits if edit.op == "resample"):
                for i, (prompt, donor) in enumerate(zip(prompts, donors, strict=True)):
                    at, given = (positions_of(p, edit.position, len(p.token_ids)) for p in (prompt, donor))
                    assert ((i, c) in read) == (len(at) == len(given) > 0)
                    seen[(i, c) in read] += 1
        assert seen[True] > 20 and seen[False] > 2


@pytest.mark.parametrize("family", [each for each in FAMILIES if ARCHITECTURES[str(each.values[0])].packs])
def test_a_shared_prefix_changes_nothing(family):
    """Queries behind one computation of their demonstrations, edits before, at and behind its end."""
    model, prompts = random_model(family), shared_prompts()
    engine, made = LocalEngine(model, build()), operands(model.config.hidden_size, head_dim_of(model.config))
    wanted = [Counterfactual((Edit("patch", "resid_post", 1, json.dumps(p), 1.0, "w"),)) for p in POSITIONS]
    wanted += [Counterfactual(), Counterfactual((Edit("patch", "resid_pre", 2, '"demo_outputs"', 1.0, OWN_STATE),))]
    prefix = len(prompts[0].token_ids) - len(prompts[0].positions["query"]) - 1
    assert len({prompt.token_ids[:prefix] for prompt in prompts}) == 1
    layout = lay_out(prompts, [-1] * len(prompts), wanted, "wavefront", prefix, together=2)
    assert layout.tokens.shape[0] == 2
    _, result = engine.forward(layout, engine.place(made), {"logits": logits_of})
    oracle = Oracle(model, prompts, wanted, made)
    oracle.hold(layout.reads, result["scores"]["logits"], TOLERANCE)
    assert len(oracle.known) == len(prompts) * len(wanted)


def test_packed_sequences_are_shorter_than_rows(computed):
    *_, found, _ = computed
    if "wavefront" not in found:
        pytest.skip("a family that does not pack")
    assert found["wavefront"][0].computed_tokens < found["rows"][0].computed_tokens / 2


def test_edits_move_logits_and_self_does_not(computed):
    """Both sides: a vector written to `last` changes its prompt's logits, a state patched with itself does not."""
    *_, wanted, found, _ = computed
    layout, logits, _ = found["wavefront" if "wavefront" in found else "rows"]
    clean = {(r.prompt, r.target): x for r, x in zip(layout.reads, logits, strict=True) if r.copy == 0 and r.token == 0}
    for read, got in zip(layout.reads, logits, strict=True):
        edits = wanted[read.copy].edits
        if read.token or wanted[read.copy].target:
            continue
        moved = (got - clean[read.prompt, read.target]).abs().max().item()
        if any(e.operand == OWN_STATE for e in edits):
            assert moved < TOLERANCE
        elif any(e.op in ("patch", "add") and e.position == LAST for e in edits):
            assert moved > 1e-3, edits
