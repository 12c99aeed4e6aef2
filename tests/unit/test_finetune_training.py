"""Adapters and their training: only the chosen layers change, the loss is the answers', a kill changes no bit."""

from __future__ import annotations

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import AutoModelForCausalLM

from patchboard.embedded.tokenizer import build
from patchboard.engine.load import load_weights, open_model
from patchboard.errors import SpecError, TaskError
from patchboard.experiments.finetune.adapters import WHICH, adapted, layers_of, trained_parameters
from patchboard.experiments.finetune.samples import batch_at, samples_of, steps_an_epoch
from patchboard.experiments.finetune.settings import AdapterSection, TrainingSection
from patchboard.experiments.finetune.training import train
from patchboard.plan.facts import ModelFacts
from patchboard.spec import Spec, study_of
from patchboard.spec.sections import ModelSection
from patchboard.tasks.resolve import build_family
from patchboard.tasks.sets import Halves
from tests.models import random_model, save

ADAPTER = AdapterSection(rank=4, layers=1)
TRAINING = TrainingSection(samples=12, shots=2, batch=4, epochs=2, learning_rate=0.01, warmup=2, checkpoint=2)
CPU = torch.device("cpu")


def spec_of(**tasks: object) -> Spec:
    return study_of({"tasks": {"family": "bitwise", "bits": 4, **tasks}}).points[0].spec


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request, tmp_path_factory):
    """A random model with another depth for each family, in the Hub's format."""
    place = tmp_path_factory.mktemp(request.param)
    save(random_model(request.param), place)
    return place


def trained(folder, which, checkpoint, tick=lambda done, of: None):
    section = ModelSection(name=str(folder))
    tokenizer, facts = open_model(section)
    model = adapted(load_weights(section, "cpu", "auto"), ADAPTER, layers_of(which, ADAPTER, facts.layers), 0)
    losses = train(model, samples_of(spec_of(), TRAINING, tokenizer, facts), TRAINING, checkpoint, tick)
    return model, losses


@pytest.mark.parametrize("which", WHICH)
def test_only_the_chosen_layers_change_and_the_base_stays(folder, which, tmp_path):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    model, _ = trained(folder, which, tmp_path / "state.pt")
    ids = torch.tensor([[5, 9, 4, 7]])
    with torch.no_grad():
        unmerged = model(ids).logits
    merged = model.merge_and_unload()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    base = AutoModelForCausalLM.from_pretrained(folder)
    changed = {
        name
        for (name, old), (other, new) in zip(base.state_dict().items(), merged.state_dict().items(), strict=True)
        if not torch.equal(old, new) or name != other
    }
    layer = f".{0 if which == 'first' else 3}."
    assert changed and all(layer in name for name in changed), "one block of four, nothing else by a bit"
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, unmerged)
        assert not torch.allclose(merged(ids).logits, base(ids).logits, atol=1e-3)


def test_before_training_the_adapters_change_nothing(folder):
    model = load_weights(ModelSection(name=str(folder)), "cpu", "auto")
    ids = torch.tensor([[5, 9, 4, 7]])
    with torch.no_grad():
        plain = model(ids).logits
        assert torch.equal(adapted(model, ADAPTER, [1], 0).eval()(ids).logits, plain)


def test_a_killed_training_goes_on_to_the_same_bits(folder, tmp_path):
    def killed(done: int, of: int) -> None:
        if done == 3:  # one step after the checkpoint, which must be done again
            raise KeyboardInterrupt

    whole, losses = trained(folder, "first", tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        trained(folder, "first", tmp_path / "broken.pt", killed)
    steps: list[int] = []

    def disturbing(done: int, of: int) -> None:
        steps.append(done)
        torch.rand(3)  # whoever else draws random numbers has no part in dropout's

    resumed, again = trained(folder, "first", tmp_path / "broken.pt", disturbing)
    assert steps == [3, 4, 5, 6] and again == losses and len(set(losses)) == 6
    for (name, one), (_, other) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        assert torch.equal(one, other), name


def test_adapters_learn_and_nothing_else(folder, tmp_path):
    rates = []
    watched = register_optimizer_step_pre_hook(lambda optimiser, *_: rates.append(optimiser.param_groups[0]["lr"]))
    try:
        model, losses = trained(folder, "last", tmp_path / "state.pt")
    finally:
        watched.remove()
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.0075, 0.005, 0.0025]), "two steps up, then straight down"
    learned = [name for name, value in model.named_parameters() if value.requires_grad]
    assert learned and all("lora_" in name and ".3." in name for name in learned)
    assert trained_parameters(model) == sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)
    assert all(loss > 0 for loss in losses)


@pytest.mark.parametrize(
    ("family", "maps"),
    [
        ("llama", "down_proj gate_proj k_proj o_proj q_proj up_proj v_proj"),
        ("gpt2", "c_attn c_fc c_proj"),
        ("olmo2", "down_proj gate_proj k_proj o_proj q_proj up_proj v_proj"),
        ("phi3", "down_proj gate_up_proj o_proj qkv_proj"),
        ("mamba2", "in_proj"),
    ],
)
def test_all_means_every_linear_map_of_the_layers(family, maps):
    model = adapted(random_model(family), ADAPTER, [1], 0)
    learned = {name.partition(".lora_")[0] for name, value in model.named_parameters() if value.requires_grad}
    assert {name.rpartition(".")[2] for name in learned} == set(maps.split()) and all(".1." in name for name in learned)


def test_the_loss_is_the_mean_over_all_answers_and_nothing_else():
    """Prompts of unequal length (sentences) in one batch, padded, against a loop over their answers, one by one."""
    model = random_model("gpt2")
    settings = TrainingSection(samples=6, shots=2, batch=6)
    spec = study_of({"tasks": {"family": "pos", "source": "grammar"}}).points[0].spec
    facts = ModelFacts("gpt2", 4, 48, 100, context=128)
    samples = samples_of(spec, settings, build(), facts)
    assert len({len(sample.ids) for sample in samples}) > 1
    with torch.no_grad():
        found = model(**batch_at(0, samples, settings, CPU)).loss
        terms = [
            -model(torch.tensor([sample.ids[:at]])).logits[0, -1].log_softmax(-1)[sample.ids[at]]
            for sample in samples
            for at in sample.answers
        ]
    assert len(terms) == 6 * 3
    torch.testing.assert_close(found, torch.stack(terms).mean())


def test_samples_hold_no_evaluated_row_and_no_null():
    spec = spec_of(only=["AND", "XOR"])
    settings = TrainingSection(samples=300, shots=2, batch=7)
    samples = samples_of(spec, settings, build(), ModelFacts("gpt2", 4, 48, 100))
    halves = Halves(build_family(spec.tasks, embedded=False), spec.prompts.seed)
    fit, evaluate = ({item.input for item in half} for half in (halves.fit, halves.evaluate))
    seen = set()
    operations = {"AND": lambda a, b: a & b, "XOR": lambda a, b: a ^ b}
    for number, sample in enumerate(samples):
        start, *words = build().convert_ids_to_tokens(list(sample.ids))
        assert start == "<bos>" and words[4::5] == ["\n", "\n"] and len(words) == 3 * 5 - 1
        for a, b, arrow, answer in zip(*(words[i::5] for i in range(4)), strict=True):
            assert arrow == "->" and int(answer, 2) == operations[("AND", "XOR")[number % 2]](int(a, 2), int(b, 2))
            seen.add(f"{a} {b}")
    assert seen <= fit and not seen & evaluate and len(seen) > 0.9 * len(fit)


def test_an_epoch_is_every_sample_once():
    settings = TrainingSection(samples=10, shots=1, batch=4, epochs=2)
    samples = samples_of(spec_of(), settings, build(), ModelFacts("gpt2", 4, 48, 100))
    assert steps_an_epoch(10, settings) == 3
    orders = []
    for epoch in range(2):
        batches = [batch_at(3 * epoch + i, samples, settings, CPU) for i in range(3)]
        rows = [row[mask == 1].tolist() for b in batches for row, mask in zip(*list(b.values())[:2], strict=True)]
        orders.append(rows)
        assert sorted(map(tuple, rows)) == sorted(sample.ids for sample in samples)
    assert orders[0] != orders[1]


def test_what_adapters_cannot_be_is_told():
    with pytest.raises(SpecError, match=r"adapter.modules: peft refuses \['nothing'\]"):
        adapted(random_model("llama"), AdapterSection(modules=["nothing"]), [0], 0)
    with pytest.raises(SpecError, match="adapter.modules: is null, and peft has no default for models of type olmo2"):
        adapted(random_model("olmo2"), AdapterSection(modules=None), [0], 0)
    with pytest.raises(SpecError, match="adapter.layers: found 4 of the model's 4"):
        layers_of("first", AdapterSection(layers=4), 4)
    with pytest.raises(SpecError, match=r"training.shots: a sample has \d+ tokens, the model reads 14"):
        samples_of(spec_of(), TRAINING, build(), ModelFacts("gpt2", 4, 48, 100, context=14))
    with pytest.raises(TaskError, match="training.shots: task AND has 128 rows"):
        samples_of(spec_of(), TrainingSection(shots=128), build(), ModelFacts("gpt2", 4, 48, 100))
