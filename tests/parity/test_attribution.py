"""Estimates of a screen against hooks and autograd, prompt by prompt; against tiny edits; and their completeness."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from patchboard.embedded.tokenizer import build
from patchboard.engine.attribution import attributions
from patchboard.engine.families import architecture_of
from patchboard.engine.local import LocalEngine
from patchboard.engine.parts import kv_heads_of
from patchboard.measure.outcomes import combine
from patchboard.metrics import METRICS
from patchboard.ops import OPS
from patchboard.plan.cells import Cell, Edit, StateRead
from patchboard.plan.model import Counterfactual, Group, Pack, ScoredCell
from patchboard.plan.suffix import clean_tokens, positions_of
from patchboard.spec.sites import HEADED, PATTERN, SITES
from patchboard.tasks.prompt import Prompt
from tests.hooks import _attach, _module, hooked_states, part_of
from tests.models import SIZES, random_model, unequal_prompts

LAST, SPAN, BOTH = json.dumps("last"), json.dumps("query"), json.dumps(["query.first", "last"])
STEPS = {"attribution": 0, "integrated_gradients": 3}
QUICK = {"attribution": ("llama", "gpt2", "gpt_neox", "phi3", "opt", "mamba2"), "integrated_gradients": ("gpt2",)}
CASES = [
    pytest.param(family, method, marks=() if family in QUICK[method] else pytest.mark.slow)
    for method in sorted(STEPS)
    for family in sorted(SIZES)
]


def group_of(prompts: Sequence[Prompt], sources: Sequence[Prompt], edits: Sequence[Edit], metric: str) -> Group:
    cells = [Cell("p", "", "flip", (edit,), edit.layer, ()) for edit in edits]
    copies = (Counterfactual(), Counterfactual(), *(Counterfactual(cell.edits) for cell in cells))
    uses = tuple(ScoredCell(cell, number + 2) for number, cell in enumerate(cells))
    donors = {"flip": tuple(sources)}
    return Group("0-A", "A", 0, 0, tuple(prompts), (5, 7)[: len(prompts)], copies, 1, uses, (metric,), donors=donors)


def edits_at(model: Any) -> list[Edit]:
    """Every site of the family, in two blocks, at one token and at two; read elsewhere; some neurons; half an edit."""
    lacks, heads = architecture_of(model.config).lacks, kv_heads_of(model.config)
    edits = [
        Edit("patch", site, layer, position, 1.0, "@flip", head=heads - 1 if site in HEADED else -1)
        for site in SITES
        if site != PATTERN and not lacks(site)
        for layer, position in ((0, BOTH), (2, LAST))
    ]
    read = StateRead(0, "resid_pre", json.dumps("query.first"))
    edits.append(Edit("resample", "resid_post", 3, LAST, 0.5, "@flip"))
    edits.append(Edit("patch", "resid_post", 1, LAST, 1.0, "@flip", read=read))
    later = StateRead(3, "resid_post", LAST)
    edits.append(Edit("patch", "resid_pre", 1, LAST, 1.0, "@flip", read=later))
    if not lacks("mlp_act"):
        edits.append(Edit("patch", "mlp_act", 1, LAST, 1.0, "@flip", neurons=(3, 17)))
    return edits


def metric_of(logits: Tensor, prompt: Prompt, foil: int, metric: str) -> Tensor:
    """The metric's formula, on the logits [seq, vocab] of the prompt with its answer forced."""
    answer = logits[prompt.last :]
    if metric == "logit_difference":
        return answer[0, prompt.answer_ids[0]] - answer[0, foil]
    total = sum(answer[i].log_softmax(-1)[token] for i, token in enumerate(prompt.answer_ids))
    assert isinstance(total, Tensor)
    return total.exp() if metric == "probability" else total


def gradient_at(model: Any, prompt: Prompt, foil: int, metric: str, edit: Edit, given: Tensor | None) -> Tensor:
    """d metric / d state [seq, width], by a zero added to the state. given: what enters the first block, in place of
    the prompt's embeddings [1, seq, d_model]."""
    added: list[Tensor] = []

    def add_nothing(h: Tensor) -> Tensor:
        added.append(torch.zeros_like(h, requires_grad=True))
        return h + added[0]

    handles = [_attach(_module(model, 0, "resid_pre"), "resid_pre", lambda h: h if given is None else given)]
    handles.append(_attach(_module(model, edit.layer, edit.site), edit.site, add_nothing))
    try:
        logits = model(torch.tensor([clean_tokens(prompt)]), use_cache=False).logits[0]
        metric_of(logits, prompt, foil, metric).backward()
    finally:
        for handle in handles:
            handle.remove()
    assert added[0].grad is not None
    return added[0].grad[0]


def by_hand(model: Any, prompt: Prompt, source: Prompt, foil: int, metric: str, edit: Edit, steps: int) -> Tensor:
    """(edited state - own state) gradient [token, number]: its sum is the estimate."""
    tokens, of_source = clean_tokens(prompt), clean_tokens(source)
    read = edit.read or StateRead(edit.layer, edit.site, edit.position)
    own = hooked_states(model, tokens, edit.layer, edit.site)
    put = hooked_states(model, of_source, read.layer, read.site)
    where = list(positions_of(prompt, edit.position, len(tokens)))
    taken = list(positions_of(source, read.position, len(of_source)))
    inputs: list[Tensor | None] = [None]
    if steps:
        a, b = (hooked_states(model, each, 0, "resid_pre") for each in (tokens, of_source))
        size = len(prompt.token_ids)
        inputs = []
        for k in range(steps):
            x = a.clone()
            x[:size] += (k + 0.5) / steps * (b[:size] - a[:size])
            inputs.append(x[None])
    gradients = [gradient_at(model, prompt, foil, metric, edit, given)[where] for given in inputs]
    gradient = torch.stack(gradients).mean(0)
    columns = list(range(own.shape[-1]))[part_of(model, edit.site, edit.head, own.shape[-1])]
    columns = [columns[n] for n in edit.neurons] if edit.neurons else columns
    h, states = own[where][:, columns].float(), put[taken][:, columns].float()
    change = OPS.get(edit.op, "op").apply(h, states, torch.tensor([[edit.strength]])) - h
    return change * gradient[:, columns].float()


def alike(method: str) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts with answers of several tokens, and sources: of as many tokens where the method asks for it."""
    prompts = [unequal_prompts()[4], unequal_prompts()[3]]
    if method == "attribution":
        return prompts, unequal_prompts("B")[4:]
    return prompts, [shuffled(prompt) for prompt in prompts]


def shuffled(prompt: Prompt) -> Prompt:
    """The same positions over other tokens, and another answer of other length."""
    ids = prompt.token_ids
    return Prompt("B", "", "", token_ids=ids[2:] + ids[:2], answer_ids=(9,), positions=prompt.positions)


@pytest.mark.parametrize(("family", "method"), CASES)
def test_equals_hooks_and_autograd(family, method):
    model = random_model(family)
    prompts, sources = alike(method)
    metric = {"attribution": "logprob", "integrated_gradients": "logit_difference"}[method]
    assert max(len(prompt.answer_ids) for prompt in prompts) > 1
    check(model, prompts, sources, metric, STEPS[method])


@pytest.mark.parametrize("metric", ["probability", "logit_difference"])
def test_equals_hooks_by_other_metrics(metric):
    check(random_model("llama"), *alike("attribution"), metric, 0)


def check(model: Any, prompts: list[Prompt], sources: list[Prompt], metric: str, steps: int) -> None:
    edits = edits_at(model)
    group = group_of(prompts, sources, edits, metric)
    # by a server the weights have no gradients
    engine = LocalEngine(model.requires_grad_(False), build())
    found = attributions(engine, group, range(len(edits)), range(len(prompts)), METRICS.get(metric, "m"), steps)
    for number, edit in enumerate(edits):
        for i, (prompt, source) in enumerate(zip(prompts, sources, strict=True)):
            parts = by_hand(model, prompt, source, group.foils[i], metric, edit, steps)
            wanted, size = float(parts.sum()), float(parts.abs().sum())
            assert abs(found[number, i] - wanted) < 1e-5 * max(1, size), (edit, i, found[number, i], wanted)
    assert np.abs(found).max(1).min() > 1e-7, "each edit would change something"


@pytest.mark.parametrize("metric", ["logprob", "logit_difference", "probability"])
def test_is_the_slope_of_the_exact_effect(metric):
    """An edit of small strength, up and down, by the packed engine: what is left of it is the linear part."""
    model, strength = random_model("llama"), 0.02
    prompts, sources = alike("attribution")
    edits = [edit for edit in edits_at(model) if edit.op == "patch"]
    small = [Edit(**{**vars(edit), "strength": sign * strength}) for edit in edits for sign in (1, -1)]
    group = group_of(prompts, sources, small, metric)
    engine = LocalEngine(model, build())
    pack = Pack(group.id, range(len(prompts)), tuple(range(len(group.copies))), "wavefront")
    scored = engine.score_pack(group, pack, {}, {metric: METRICS.get(metric, "m").score})
    table = combine(scored.prompt, scored.copy, scored.scores, scored.moved)
    exact = np.full((len(prompts), len(group.copies)), np.nan)
    exact[table["query"].to_numpy(), table["copy"].to_numpy()] = table[metric].to_numpy()
    slopes = (exact[:, 2::2] - exact[:, 3::2]).T / (2 * strength)
    whole = group_of(prompts, sources, edits, metric)
    found = attributions(engine, whole, range(len(edits)), range(len(prompts)), METRICS.get(metric, "m"), 0)
    largest = np.abs(slopes).max()
    assert np.abs(found - slopes).max() < 0.005 * largest and np.abs(found).max() > 1e-3 * largest


def test_integrated_gradients_are_complete():
    """Over all differences of embeddings they sum to metric(source) - metric(base), the better the more steps."""
    model = random_model("llama")
    prompts, sources = alike("integrated_gradients")
    forced = [Prompt("B", "", "", token_ids=source.token_ids, answer_ids=prompt.answer_ids, positions=prompt.positions)
              for prompt, source in zip(prompts, sources, strict=True)]  # fmt: skip
    edit = [Edit("patch", "resid_pre", 0, json.dumps("all"), 1.0, "@flip")]
    group = group_of(prompts, forced, edit, "logprob")
    with torch.no_grad():
        base, source = (
            np.array(
                [float(metric_of(model(torch.tensor([clean_tokens(p)])).logits[0], p, 5, "logprob")) for p in each]
            )
            for each in (prompts, forced)
        )
    engine, errors = LocalEngine(model, build()), []
    for steps in (1, 8, 64):
        found = attributions(engine, group, [0], range(2), METRICS.get("logprob", "m"), steps)[0]
        errors.append(np.abs(found - (source - base)).max())
    assert np.abs(source - base).min() > 0.1
    assert errors[2] < 0.01 * np.abs(source - base).max() and errors[2] < errors[1] < errors[0], errors


def test_a_prompt_without_foil_or_source_has_no_estimate():
    prompts, sources = alike("attribution")
    edits = [Edit("patch", "resid_post", 1, LAST, 1.0, "@flip"), Edit("patch", "resid_post", 1, SPAN, 1.0, "@flip")]
    group = group_of(prompts, sources, edits, "logit_difference")
    engine = LocalEngine(random_model("llama"), build())

    def found(**changes: Any) -> np.ndarray:
        changed = Group(**{**vars(group), **changes})
        return attributions(engine, changed, [0, 1], range(2), METRICS.get("logit_difference", "m"), 0)

    lengths = [[len(p.positions["query"]) for p in each] for each in (prompts, sources)]
    fits = [a == b for a, b in zip(*lengths, strict=True)]
    assert np.isfinite(found()[0]).all() and np.isfinite(found()[1]).tolist() == fits and not all(fits)
    assert np.isfinite(found(foils=(-1, 7))[0]).tolist() == [False, True]
    excluded = Prompt("B", "", "", excluded="x")
    assert np.isfinite(found(donors={"flip": (sources[0], excluded)})[0]).tolist() == [True, False]
