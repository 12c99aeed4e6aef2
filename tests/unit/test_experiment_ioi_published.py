"""Direct effects beside the published ones: formula, sentences, and a random GPT-2 held against plain hooks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM

from patchboard.execution.planned import plan_study
from patchboard.experiments.ioi_published.experiment import DIRECT, direct_effects, ratio_interval
from patchboard.experiments.ioi_published.findings import CLEAN, PUBLISHED, findings, introduction, overview
from patchboard.measure.statistics import Bootstrap
from patchboard.spec import load_study
from tests.ioi_models import saved_ioi_model
from tests.scripts import must_refuse, ran

BOOTSTRAP = Bootstrap(500, 0.95, 0)


def test_relative_change_is_the_quotient_of_the_means():
    """Not the mean of the quotients: one small clean difference would outweigh all others."""
    clean, effects = np.array([0.1, 4.0, 4.0, 3.9]), {(9, 9): np.array([-1.0, -2.0, -3.0, -2.0]), (0, 1): np.zeros(4)}
    rows = pl.DataFrame(
        [
            {"layer": layer, "head": head, "query": q, "clean": clean[q], "patched": clean[q] + effect[q]}
            for (layer, head), effect in reversed(effects.items())
            for q in (2, 0, 3, 1)
        ]
    )
    table = direct_effects(rows, PUBLISHED, BOOTSTRAP)
    assert table.schema == pl.Schema(DIRECT)
    assert table.select("layer", "head", "relative", "effect", "n", "published").rows() == [
        (9, 9, pytest.approx(-8.0 / 12.0), pytest.approx(-2.0), 4, -0.67), (0, 1, 0.0, 0.0, 4, None),
    ]  # fmt: skip
    first = table.row(0, named=True)
    assert first["ci_low"] < first["relative"] < first["ci_high"]


def test_the_interval_of_a_quotient_holds_both_means_together():
    """Where each change is the same share of its own difference there is nothing to be unsure of."""
    rng = np.random.default_rng(0)
    below = rng.uniform(1, 9, 50)
    assert ratio_interval(-0.3 * below, below, BOOTSTRAP) == pytest.approx((-0.3, -0.3))
    above = -0.3 * below + rng.normal(0, 2, 50)
    low, high = ratio_interval(above, below, BOOTSTRAP)
    drawn = [(above[i].mean() / below[i].mean()) for i in rng.integers(0, 50, (4000, 50))]
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)


def summary_of(heads: list[tuple[int, int, float, float | None]], clean: float | None) -> dict[str, Any]:
    rows = [
        {"layer": layer, "head": head, "relative": value, "ci_low": value - 0.1, "ci_high": value + 0.1,
         "effect": 4 * value, "n": 8, "published": told}
        for layer, head, value, told in heads
    ]  # fmt: skip
    return {
        "model": "m", "source": "abc", "level": 0.95, "published_clean": clean, "heads": rows, "clean": 4.0,
        "clean_low": 3.5, "clean_high": 4.5, "preferred": 0.99, "n": 8,
    }  # fmt: skip


def test_sentences_with_published_numbers_and_without():
    of_gpt2 = summary_of([(9, 9, -0.625, -0.67), (3, 3, -0.5, None), (10, 7, 0.5, 0.45)], CLEAN)
    first, second = findings(of_gpt2)
    assert first == (
        "Logit difference without an edit: 4.000 [3.500, 4.500], published 3.56; above 0 in 0.99 of 8 sentences."
    )
    assert second == (
        "Relative change by direct paths to the logits: 9.9 -0.625 [-0.725, -0.525] (published -0.67) and 10.7 +0.500"
        " [+0.400, +0.600] (published +0.45)."
    )
    other = summary_of([(3, 3, -0.5, None), (1, 0, 0.25, None)], None)
    first, second = findings(other)
    assert "published" not in first and second.endswith("and 1.0 +0.250 [+0.150, +0.350]. None is published for it.")
    (table,) = overview(of_gpt2)
    assert [row[2] for row in table.rows] == ["-0.67", "", "+0.45"] and all(introduction(of_gpt2))


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--tasks.family=greater_than", "tasks.family: is greater_than, expected ioi"),
        ("--metrics=[logprob]", "metrics: lacks logit_difference"),
        ("--prompts.seed={sweep: [0, 1]}", "prompts.seed: is swept, expected one setting"),
        ("--interventions={}", "interventions.to_logits: is not there as paths from heads to the logits"),
        (
            "--interventions.to_logits.receivers=[{site: resid_post, layer: 3}]",
            "interventions.to_logits: is not there as paths from heads to the logits",
        ),
    ],
)
def test_what_it_cannot_mean_is_one_line_and_nothing_is_written(argument, says, tmp_path):
    out = tmp_path / "run"
    must_refuse(ran("ioi_published.py", "--model=embedded", argument, "--out", out), says, out)


@pytest.mark.slow
def test_a_random_gpt2_of_gpt2s_configuration_has_the_published_column(tmp_path):
    """Its direct effects are those of plain hooks: heads held, one as in the source, the last norm's input taken."""
    settings = {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}
    folder = saved_ioi_model(tmp_path / "gpt2", "gpt2", **settings)
    out = tmp_path / "run"
    asked = ("--model", folder, "--prompts.queries=4", "--statistics.bootstrap=200", "--wandb=off", "--out", out)
    status, told, error = ran("ioi_published.py", *asked)
    assert (status, error) == (0, "") and told.count("(published") == 4 and "published 3.56" in told
    summary = json.loads((out / "experiment" / "summary.json").read_text())
    found = {(row["layer"], row["head"]): row for row in summary["heads"]}
    assert len(found) == 144 and {key for key, row in found.items() if row["published"]} == set(PUBLISHED)
    assert ran("ioi_published.py", *asked) == (0, told, "")
    clean, changes = by_hooks(folder, out, list(PUBLISHED))
    assert summary["clean"] == pytest.approx(clean.mean().item(), abs=1e-5)
    for key, change in changes.items():
        assert found[key]["effect"] == pytest.approx(change.mean().item(), abs=1e-5)
        assert found[key]["relative"] == pytest.approx((change.mean() / clean.mean()).item(), abs=1e-4)
    assert max(change.abs().max() for change in changes.values()) > 1e-3


@torch.no_grad()
def by_hooks(folder: Any, run: Any, heads: list[tuple[int, int]]) -> tuple[torch.Tensor, dict]:
    """[query] logit differences of the run's prompts, and of each head its direct change of them."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    (group,) = plan_study(load_study(run / "spec.yaml"))[0].groups
    mixers = [block.attn.c_proj for block in model.transformer.h]

    def passed(ids: torch.Tensor, given: dict[Any, torch.Tensor]) -> tuple[torch.Tensor, dict]:
        """Logits, and what went into each module, of which some is given."""
        seen: dict[Any, torch.Tensor] = {}

        def hook(module: Any, inputs: tuple) -> tuple | None:
            seen[module] = inputs[0]
            return (given[module],) if module in given else None

        handles = [module.register_forward_pre_hook(hook) for module in (*mixers, model.transformer.ln_f)]
        logits = model(ids).logits[0, -1]
        for handle in handles:
            handle.remove()
        return logits, seen

    clean, changes = [], {head: [] for head in heads}
    for prompt, foil in zip(group.prompts, group.foils, strict=True):
        ids, other = (torch.tensor([each.token_ids]) for each in (prompt, prompt.sources["abc"]))
        (logits, own), (_, source) = passed(ids, {}), passed(other, {})
        clean.append(logits[prompt.answer_ids[0]] - logits[foil])
        for layer, head in heads:
            held = {mixer: own[mixer].clone() for mixer in mixers}
            columns = slice(64 * head, 64 * head + 64)
            held[mixers[layer]][:, -1, columns] = source[mixers[layer]][:, -1, columns]
            received = passed(ids, held)[1][model.transformer.ln_f]
            given = own[model.transformer.ln_f].clone()
            given[:, -1] = received[:, -1]
            logits = passed(ids, {model.transformer.ln_f: given})[0]
            changes[layer, head].append(logits[prompt.answer_ids[0]] - logits[foil] - clean[-1])
    return torch.stack(clean), {head: torch.stack(each) for head, each in changes.items()}
