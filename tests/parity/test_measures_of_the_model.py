"""What is read from one teacher-forced pass equals what generation, or one pass a prompt, would give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.engine.local import LocalEngine
from patchboard.measure.outcomes import combine
from patchboard.metrics import METRICS
from patchboard.plan.model import Counterfactual, Decoding, Group, Pack
from patchboard.spec.prompts import TemplateSection
from patchboard.spec.sections import DecodabilitySection
from patchboard.tasks.base import Item
from patchboard.tasks.prompts import Prompter
from tests.models import random_model, unequal_prompts

ACCURACY = METRICS.get("accuracy", "metrics").score


@pytest.fixture(scope="module")
def model():
    return random_model("llama", seed=3)


def test_exact_match_is_greedy_decoding(model):
    """Answers of one to four tokens: half are what the model would say, the others differ in one token."""
    tokenizer, rng = build(), np.random.default_rng(0)
    prompts, expected = [], []
    for i, prompt in enumerate(unequal_prompts() * 4):
        length = 1 + i % 4
        with torch.no_grad():
            said = model.generate(
                torch.tensor([prompt.token_ids]),
                max_new_tokens=length,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )[0, len(prompt.token_ids) :].tolist()
        answer = list(said)
        if i % 2:
            answer[rng.integers(length)] += 1
        prompts.append(type(prompt)(prompt.task, prompt.text, "", prompt.token_ids, tuple(answer), prompt.positions))
        expected.append(float(answer == said))
    group = Group("g", "A", 0, 0, tuple(prompts), (-1,) * len(prompts), (Counterfactual(),), 0, (), ("accuracy",))
    pack = Pack("g", range(len(prompts)), (0,), "wavefront")
    found = LocalEngine(model, tokenizer).score_pack(group, pack, {}, {"accuracy": ACCURACY})
    values = combine(found.prompt, found.copy, found.scores, found.moved)
    assert values["accuracy"].to_list() == expected
    assert 0 < sum(expected) < len(expected)


def test_metrics_are_their_formulas(model):
    """Against numpy, on one read at a time."""
    generator = torch.Generator().manual_seed(0)
    logits, clean = (torch.randn(6, 11, generator=generator) * 3 for _ in range(2))
    target, foil = torch.tensor([0, 3, 5, 10, 2, 2]), torch.tensor([1, 4, -1, 0, 2, 7])
    for name, metric in METRICS.items():
        found = metric.score(logits, target, foil, clean).numpy()
        for i in range(6):
            x, y = logits[i].double().numpy(), clean[i].double().numpy()
            p, q = np.exp(y) / np.exp(y).sum(), np.exp(x) / np.exp(x).sum()
            t, f = int(target[i]), int(foil[i])
            literal = {
                "accuracy": float(x.argmax() == t),
                "conversion": float(x.argmax() == t),
                "logprob": np.log(q[t]),
                "probability": np.log(q[t]),  # of one token; exp of their sum is taken over an answer's
                "rank": 1.0 + sum(v > x[t] for v in x),
                "kl": sum(p[v] * np.log(p[v] / q[v]) for v in range(11)),
                "kl_source": sum(p[v] * np.log(p[v] / q[v]) for v in range(11)),  # of the source's logits
                "logit_difference": x[t] - x[f] if f >= 0 else np.nan,
                "normalised_logit_difference": x[t] - x[f] if f >= 0 else np.nan,  # taken of the means of these
            }[name]
            np.testing.assert_allclose(found[i], literal, rtol=1e-4, atol=1e-5)


def test_states_of_all_shots_come_from_one_pass(model):
    """CD's states and exact match at s shots equal those of a prompt of s demonstrations of its own."""
    words = "baker river garden letter boat child mountain teacher".split()
    rows = [Item(w, {"T": words[i - 1] + " again" * (i % 3)}) for i, w in enumerate(words)]
    prompter, engine = Prompter(build(), TemplateSection()), LocalEngine(model, build())
    shots = [0, 1, 3, 5]
    whole = [prompter.prompts("T", [(rows[i:] + rows[:i])[:6]])[0] for i in range(3)]
    decoding = Decoding("cd", DecodabilitySection(k=1, prompts=3, shots=shots), {"T": tuple(whole)}, ())
    kept: list[torch.Tensor] = []
    accuracy, labels = engine.decode(decoding, kept.append)
    states = torch.cat(kept)
    assert labels == ["T"] * 3
    for i in range(3):
        for j, s in enumerate(shots):
            alone = prompter.prompts("T", [(rows[i:] + rows[:i])[: s + 1]])[0]
            with torch.no_grad():
                out = model(torch.tensor([alone.token_ids + alone.answer_ids[:-1]]), output_hidden_states=True)
            for layer in range(3):  # the last entry of hidden_states is behind the final norm
                torch.testing.assert_close(
                    states[i, layer, j], out.hidden_states[layer + 1][0, alone.last], atol=1e-5, rtol=1e-4
                )
            right = out.logits[0, alone.last :].argmax(-1).tolist() == list(alone.answer_ids)
            assert accuracy[i, j] == float(right)
