"""A model in memory is run as one of a name is, known by its contents, and given back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import patchboard as pb
from patchboard.embedded.tokenizer import build
from patchboard.plan.cells import Edit
from patchboard.plan.model import Counterfactual
from tests.hooks import hooked_logits
from tests.models import random_model, unequal_prompts

VECTOR = {"mean": "same_task", "shots": 1, "prompts": 3}
SUBSPACE = {"subspace": "tasks", "rank": 1, "shots": 1, "prompts": 3}
TREE: dict[str, Any] = {
    "name": "tiny",
    "tasks": {"family": "bitwise", "bits": 4, "only": ["AND", "OR", "XOR"]},
    "prompts": {"shots": 1, "queries": 2},
    "interventions": {
        "patch": {"op": "patch", "vector": VECTOR, "layers": [1, 3]},
        "add": {"op": "add", "vector": VECTOR, "layers": [0, 2], "strength": 0.5, "site": "attn_out"},
        "ablate": {"op": "ablate", "vector": SUBSPACE, "layers": [0, 2]},
        "scale": {"op": "scale", "layers": [1, 2], "strength": 3, "site": "mlp_out"},
    },
    "controls": [], "metrics": ["logprob"], "decodability": None, "statistics": {"bootstrap": 100},
}  # fmt: skip
FAMILIES = ("gpt2", "gemma2", "opt")


@pytest.fixture(scope="module", autouse=True)
def no_report() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("patchboard.execution.run._report", lambda folder: None)
        yield


def state_of(model: Any) -> tuple[Any, ...]:
    """Everything about a model that a run could leave changed."""
    modules = {
        name: (set(vars(m)), m.training, len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in vars(m))
        for name, m in model.named_modules()
    }
    numbers = {name: (p.requires_grad, p.dtype, p.clone()) for name, p in model.named_parameters()}
    return modules, numbers, model.config.to_dict(), model.generation_config.to_dict()


def assert_same(model: Any, before: tuple[Any, ...]) -> None:
    modules, numbers, *configs = state_of(model)
    assert modules == before[0] and configs == list(before[2:])
    for name, (grad, dtype, value) in numbers.items():
        assert (grad, dtype) == before[1][name][:2] and torch.equal(value, before[1][name][2])


@pytest.fixture(scope="module", params=["gpt2", *(pytest.param(each, marks=pytest.mark.slow) for each in FAMILIES[1:])])
def ran(request, tmp_path_factory) -> tuple[Any, pb.Run]:
    """A model of the family, in a mode of its own, and the run of it."""
    model, tokenizer = random_model(request.param), build()
    model.eval()
    next(iter(model.children())).train()
    next(iter(model.parameters())).requires_grad_(False)
    before = state_of(model)
    run = pb.run(pb.load(TREE), model=model, tokenizer=tokenizer, out=tmp_path_factory.mktemp("memory") / "run")
    assert_same(model, before)
    return model, run


def logprob(model: Any, row: dict[str, Any]) -> float:
    answer = row["answer_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([[*row["token_ids"], *answer[:-1]]])).logits[0].log_softmax(-1)
    return sum(float(logits[row["position"] + i, token]) for i, token in enumerate(answer))


def test_intervene_gives_the_engines_numbers(ran):
    model, run = ran
    model.eval()
    before = state_of(model)
    prompts = {(r["task"], r["query"]): r for r in run.prompts.filter(role="evaluate").iter_rows(named=True)}
    moved = 0.0
    rows = list(run.outcomes.filter(task="XOR").iter_rows(named=True))
    assert {row["op"] for row in rows} == {"patch", "add", "ablate", "scale"}
    for row in rows:
        prompt = prompts[row["task"], row["query"]]
        name, layer = row["intervention"], row["layer"]
        vector = run.vectors[name, layer, row["vector_task"]] if row["vector_task"] else None
        how = {"op": row["op"], "layer": layer, "strength": row["strength"], "site": row["site"]}
        with pb.intervene(model, vector, position=prompt["position"], **how):
            assert logprob(model, prompt) == pytest.approx(row["patched"], abs=2e-4)
        moved = max(moved, abs(row["patched"] - row["clean"]))
    assert moved > 0.05
    assert_same(model, before)


def test_the_model_is_named_by_its_contents(ran, tmp_path):
    model, run = ran
    name = run.study.points[0].spec.model.name
    assert name.startswith("memory:") and len(name) == len("memory:") + 12
    assert set(run.manifest["identity"]["models"][name]) == {"weights", "config", "tokenizer"}
    study = pb.load(TREE)
    assert pb.run(study, model=model, tokenizer=build(), out=run.path).path == run.path, "finished, found again"
    plan = study.plan(model=model, tokenizer=build())
    assert plan.study.digest == run.manifest["digest"] and "AND, 1 shots" in plan.tokens()
    assert pb.open(run.path).outcomes.equals(run.outcomes) and len(run.examples("patch", n=1)) == 1
    weight = next(iter(model.parameters()))
    changed = weight.data.clone()
    try:
        weight.data[0, 0] += 1e-3
        with pytest.raises(pb.RunFolderError, match="holds a run of another spec"):
            pb.run(study, model=model, tokenizer=build(), out=run.path)
    finally:
        weight.data = changed


def test_a_model_in_memory_has_the_numbers_of_its_folder(llama_folder, tmp_path):
    tree = {**TREE, "interventions": {"scale": TREE["interventions"]["scale"]}}
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama_folder), AutoTokenizer.from_pretrained(llama_folder)
    named = pb.run({**tree, "model": {"name": str(llama_folder)}}, out=tmp_path / "named")
    held = pb.run({**tree, "model": {"name": "gpt2"}}, model=model, tokenizer=tokenizer, out=tmp_path / "held")
    assert named.outcomes.equals(held.outcomes)
    assert pb.run(held.study, out=held.path).path == held.path, "what is finished needs no model"
    with pytest.raises(pb.ModelError, match=r"was a model in memory; give that model: run\(study, model=…"):
        pb.run(held.study, out=held.path, fresh=True)
    half = pb.run(tree, model=model.bfloat16(), tokenizer=tokenizer, out=tmp_path / "half")
    assert half.manifest["models"][0]["dtype"] == "bfloat16" and half.manifest["digest"] != held.manifest["digest"]


class Unknown(torch.nn.Module):
    pass


@pytest.mark.parametrize(
    ("changes", "options", "where", "says"),
    [
        ({}, {"tokenizer": None}, "tokenizer", "is missing beside model; give"),
        ({}, {"model": None}, "model", "is missing beside tokenizer; give"),
        ({}, {"remote": "http://127.0.0.1:1"}, "remote", "a model in memory is on no server; leave"),
        ({}, {"device": "cpu"}, "device", "a model in memory stays where it is; leave"),
        ({}, {"devices": 2}, "devices", "found 2, and a model in memory is in this process alone; leave"),
        ({"model": {"adapter": "a"}}, {}, "model.adapter", "found a, and a model in memory is run as it is; leave"),
        ({"model": {"quantization": "4bit"}}, {}, "model.quantization", "found 4bit, and a model in memory"),
        ({"model": {"dtype": "bfloat16"}}, {}, "model.dtype", "found bfloat16, and a model in memory"),
        (
            {"model": {"revision": {"sweep": ["a", "b"]}}},
            {},
            "model.revision",
            "is swept, and a model in memory is one",
        ),
        ({}, {"model": Unknown()}, "model", "found a Unknown, expected a causal language model of transformers"),
        ({}, {"tokenizer": "gpt2"}, "tokenizer", "found a str, expected a tokenizer of transformers"),
    ],
)
def test_refusals(changes, options, where, says, tmp_path):
    given = {"model": random_model("llama"), "tokenizer": build(), **options}
    with pytest.raises(pb.PatchboardError) as caught:
        pb.run({**TREE, **changes}, out=tmp_path / "run", **given)
    assert caught.value.where == where and says in caught.value.one_line() and not (tmp_path / "run").exists()


def test_models_that_cannot_be_run(tmp_path):
    def refusal(model: Any, tokenizer: Any = None) -> str:
        with pytest.raises(pb.ModelError) as caught:
            pb.run(TREE, model=model, tokenizer=tokenizer or build(), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()
        return caught.value.one_line()

    model = random_model("llama")
    model.config.model_type = "their_own"
    assert "no row for its family: looked for model_type 'their_own'" in refusal(model)
    model.config.model_type = "llama"
    model.config._attn_implementation = "flash_attention_2"
    assert 'takes no mask made for copies; load it with attn_implementation="sdpa"' in refusal(model)
    model.config._attn_implementation = "sdpa"
    small = random_model("llama", vocab_size=20)
    assert "the model embeds 20 tokens; give the tokenizer that belongs to the model" in refusal(small)
    assert "is on the meta device, without values" in refusal(model.to("meta"))


PROMPTS = torch.tensor([[5, 9, 3, 7], [6, 2, 8, 4]])


def generated(
    model: Any, vector: Any, position: Any, cache: bool, prompts: torch.Tensor = PROMPTS, **options: Any
) -> Any:
    """Tokens [prompt, seq], and the logits of the generated ones."""
    edit = pb.intervene(model, vector, layer=[1, 2], strength=4.0, position=position) if position else nullcontext()
    with edit:
        found = model.generate(
            prompts, max_new_tokens=5, do_sample=False, use_cache=cache, pad_token_id=0, eos_token_id=None,
            return_dict_in_generate=True, output_logits=True, **options,
        )  # fmt: skip
    return found.sequences.tolist(), torch.stack(found.logits, 1)


@pytest.mark.parametrize("family", ["llama", *(pytest.param(each, marks=pytest.mark.slow) for each in FAMILIES)])
def test_generation_is_the_same_with_and_without_a_cache(family):
    model = random_model(family).eval()
    before = state_of(model)
    vector = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    found = {}
    for position in (None, "from_last", "last", "all", (0, -2)):
        tokens, logits = found[position] = generated(model, vector, position, cache=True)
        without = generated(model, vector, position, cache=False)
        assert tokens == without[0] and torch.allclose(logits, without[1], atol=1e-4), position
    logits = [each[1] for each in found.values()]
    assert all((one - other).abs().max() > 1e-2 for i, one in enumerate(logits) for other in logits[:i]), "other tokens"
    assert_same(model, before)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1]] * 2)
    padded = torch.cat([torch.zeros(2, 2, dtype=torch.long), PROMPTS], 1)
    for position in ("from_last", (0, -2)):
        tokens, logits = generated(model, vector, position, True, padded, attention_mask=mask)
        assert [row[2:] for row in tokens] == found[position][0], "padding is not counted"
        assert torch.allclose(logits, found[position][1], atol=1e-3)
    beams = [generated(model, vector, "last", cache, num_beams=3)[0] for cache in (True, False)]
    assert beams[0] == beams[1]


def test_from_last_edits_the_last_token_and_all_after_it():
    """Held against edits at indices of the whole sequence, in one pass."""
    model = random_model("llama").eval()
    vector = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    tokens, logits = generated(model, vector, "from_last", cache=True)
    with torch.no_grad(), pb.intervene(model, vector, layer=[1, 2], strength=4.0, position=range(3, 8)):
        in_one_pass = model(torch.tensor(tokens[:1])).logits
    assert torch.allclose(in_one_pass[:, 3:8], logits[:1], atol=1e-4)


def test_edits_compose_and_leave_after_an_error():
    model = random_model("llama").eval()
    before = state_of(model)
    one, two = torch.randn(2, model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        clean = model(PROMPTS).logits
        with pb.intervene(model, one, layer=1), pb.intervene(model, two.double(), layer=1):
            both = model(PROMPTS).logits
        with pb.intervene(model, one + two, layer=1):
            assert torch.allclose(model(PROMPTS).logits, both, atol=1e-5)
        assert not torch.allclose(both[:, -1], clean[:, -1], atol=1e-2) and torch.equal(both[:, :-1], clean[:, :-1])
    with pytest.raises(ZeroDivisionError), pb.intervene(model, one, layer=1):
        model.generate(PROMPTS, max_new_tokens=1, pad_token_id=0)
        raise ZeroDivisionError
    assert_same(model, before)


def test_a_head_alone_is_edited():
    model = random_model("llama").eval()
    width = model.config.hidden_size // model.config.num_attention_heads
    states = []
    handle = model.model.layers[1].self_attn.o_proj.register_forward_pre_hook(lambda _, args: states.append(args[0]))
    with torch.no_grad():
        model(PROMPTS)
        handle.remove()
        with pb.intervene(model, torch.ones(width), op="patch", layer=1, site="head", head=2, position="all"):
            handle = model.model.layers[1].self_attn.o_proj.register_forward_pre_hook(
                lambda _, args: states.append(args[0])
            )
            model(PROMPTS)
            handle.remove()
    clean, edited = (each.unflatten(-1, (-1, width)) for each in states)
    assert (edited[..., 2, :] == 1).all() and torch.equal(edited[..., [0, 1, 3], :], clean[..., [0, 1, 3], :])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "phi3", "opt"])
@pytest.mark.parametrize("site", ["q", "v", "mlp_pre", "mlp_act"])
def test_intervene_inside_a_block_is_the_edit_of_a_run(family, site):
    """Held against the oracle of hooks, for families whose queries, keys and values come of one module or of three."""
    model, (prompt, *_) = random_model(family).eval(), unequal_prompts()[2:]
    place = {"head": 1} if site in "qv" else {"neurons": (5, 0, 17)}
    vector = torch.randn(12 if site in "qv" else 3, generator=torch.Generator().manual_seed(2))
    copy = Counterfactual((Edit("patch", site, 1, '"all"', 1.0, "v", **place),))
    wanted = hooked_logits(model, prompt, copy, {"v": vector})
    tokens = torch.tensor([prompt.token_ids + prompt.answer_ids[:-1]])
    with torch.no_grad(), pb.intervene(model, vector, "patch", 1, site=site, position=range(prompt.last + 1), **place):
        found = model(tokens).logits[0, prompt.last]
    torch.testing.assert_close(found, wanted[0], atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        assert (model(tokens).logits[0, prompt.last] - found).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("given", "where", "says"),
    [
        ({"layer": 4}, "layer", "found 4, the model has blocks 0 to 3; give one of these"),
        ({"layer": [1, -1]}, "layer", "found -1, the model has blocks 0 to 3"),
        ({"layer": [1, 1]}, "layer", "expected different blocks"),
        ({"vector": torch.ones(7)}, "vector", "has shape [7], the model's states there have [48]"),
        ({"vector": None}, "vector", "is missing, op add needs a vector"),
        ({"op": "ad"}, "op", "unknown op 'ad'; did you mean 'add'?"),
        ({"op": "scale"}, "vector", "op scale takes none"),
        ({"op": "ablate"}, "vector", "is a vector, op ablate needs a subspace"),
        ({"op": "resample"}, "op", "takes another prompt's states"),
        ({"site": "resid"}, "site", "there is no site 'resid'; did you mean 'resid_"),
        ({"site": "head"}, "head", "found None, the model has heads 0 to 3"),
        ({"head": 1}, "head", "has no meaning at site resid_post"),
        ({"site": "v", "head": 2}, "head", "found 2, the model has heads 0 to 1 there"),
        ({"neurons": [1]}, "neurons", "have no meaning at site resid_post"),
        ({"site": "mlp_act", "neurons": [1, 96]}, "neurons", "found [1, 96], expected different numbers of 0 to 95"),
        ({"position": "first"}, "position", "found 'first', expected from_last, last, all or indices"),
        ({"model": Unknown()}, "model", "found a Unknown"),
    ],
)
def test_what_intervene_refuses(given, where, says):
    asked = {"model": random_model("llama"), "vector": torch.ones(48), "layer": 1, **given}
    with pytest.raises(pb.PatchboardError) as caught, pb.intervene(**asked):
        pass
    assert caught.value.where == where and says in caught.value.one_line()


def test_an_index_beyond_the_prompt_is_one_line():
    model = random_model("llama").eval()
    with pytest.raises(pb.SpecError, match="position: found 4, the prompt has 4 tokens"):
        with pb.intervene(model, torch.ones(48), position=4):
            model(PROMPTS)
