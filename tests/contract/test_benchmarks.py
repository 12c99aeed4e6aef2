"""The benchmarks time the same computation for everybody, and count what they say they count."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

import patchboard as pb
from patchboard.engine.local import LocalEngine
from patchboard.measure.statistics import Bootstrap
from patchboard.plan.cost import cost_of
from patchboard.plan.packs import Budget
from patchboard.spec import load_study, study_of
from tests.contract.tiny import tiny_tree
from tests.hooks import hooked_logits
from tests.ioi_models import saved_ioi_model

TOLERANCE = 1e-5
"""Logits and states of two ways to compute the same thing, in float32."""
LAYERS, WIDTH, VOCAB, TOKENS = 3, 64, 50, 7


@pytest.fixture(scope="module", autouse=True)
def modules():
    """The folder's modules, which are scripts beside each other and no package."""
    folder = str(Path(__file__).parents[2] / "benchmarks")
    threads = torch.get_num_threads()
    sys.path.insert(0, folder)
    import circuits
    import decodability
    import gpu
    import ours
    import outcomes
    import page
    import page_folder
    import peers
    import real_sweep
    import rivals
    import scale
    import sweep
    import workload
    from circuit_peers import hooks as circuit_hooks

    yield SimpleNamespace(
        circuit_hooks=circuit_hooks, circuits=circuits, decodability=decodability, gpu=gpu, ours=ours,
        outcomes=outcomes, page=page, page_folder=page_folder, peers=peers, real_sweep=real_sweep, rivals=rivals,
        scale=scale, sweep=sweep, workload=workload,
    )  # fmt: skip
    sys.path.remove(folder)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(modules):
    return modules.workload.random_llama(LAYERS, WIDTH, VOCAB, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def swept(modules, model):
    """A sweep of two vectors a layer: its prompts, cells, vectors, group and facts."""
    cells = modules.workload.Point(LAYERS, TOKENS, 2).cells
    prompts = modules.workload.random_prompts(5, TOKENS, VOCAB)
    return SimpleNamespace(
        cells=cells, prompts=prompts, group=modules.workload.group_of(prompts, cells),
        vectors=modules.workload.random_vectors(cells, WIDTH), facts=modules.workload.facts_of(model.config),
        ids=torch.tensor([prompt.token_ids for prompt in prompts]),
    )  # fmt: skip


@pytest.fixture(scope="module")
def expected(modules, model, swept):
    """[cell, prompt, vocab] by the tests' oracle: one prompt, one cell, one pass."""
    return torch.stack(
        [
            torch.stack([hooked_logits(model, prompt, copy, swept.vectors)[0] for prompt in swept.prompts])
            for copy in swept.group.copies[1:]
        ]
    )


@pytest.mark.parametrize("rival", ["Hooks", "Nnsight"])
def test_rivals_compute_the_sweep(modules, model, swept, expected, rival):
    made = getattr(modules.rivals, rival)(model, swept.ids, modules.workload.tokenizer())
    vectors = [(layer, swept.vectors[modules.workload.key(layer, c)]) for layer, c in swept.cells]
    torch.testing.assert_close(torch.stack(made(vectors)), expected, atol=TOLERANCE, rtol=TOLERANCE)
    clean = modules.rivals.Hooks(model, swept.ids, None).clean()
    assert (expected - clean).abs().amax((1, 2)).min() > 1000 * TOLERANCE  # each cell is an intervention


@pytest.mark.parametrize("way", ["wavefront", "rows"])
def test_our_engine_computes_the_sweep(modules, model, swept, expected, way):
    engine = LocalEngine(model, modules.workload.tokenizer())
    # a small budget: several packs, of copies and of prompts
    sweeper = modules.ours.Sweeper(engine, swept.facts, Budget(tokens=40), engine.place(swept.vectors))
    torch.testing.assert_close(sweeper.logits(swept.group, way), expected, atol=TOLERANCE, rtol=TOLERANCE)
    targets = torch.tensor([prompt.answer_ids[0] for prompt in swept.prompts])
    logprobs = expected.log_softmax(-1)[:, torch.arange(len(targets)), targets]
    timed = torch.from_numpy(sweeper.sweep(swept.group, way))
    torch.testing.assert_close(timed, logprobs, atol=TOLERANCE, rtol=TOLERANCE)


def test_bound_is_each_counterfactual_token_once_a_block_that_differs(modules, swept):
    cost = cost_of(modules.workload.plan_of(swept.group, swept.facts), "wavefront", Budget())
    literal = sum(TOKENS * LAYERS + sum(LAYERS - layer - 1 for layer, _ in swept.cells) for _ in swept.prompts)
    assert cost.bound == literal == cost.token_layers


def test_summary_of_planted_seconds(modules):
    point = modules.workload.Point(4, 10, 2)
    tokens = modules.workload.BATCH * 10 * 4
    seconds = {"clean": tokens * 1e-3, "hooks": 8.0, "rows": 4.0, "wavefront": 0.5}
    found = modules.sweep.summary(point, seconds, bound=250)
    assert (found["hooks_over_rows"], found["hooks_over_wavefront"]) == (2.0, 16.0)
    assert found["hooks_over_pyvene"] is None
    assert found["hooks_over_bound"] == modules.workload.BATCH * 8 * 10 * 4 / 250  # eight cells a prompt
    assert found["efficiency"] == 0.5  # 1 ms a token-layer clean, 2 ms in the wavefront


def test_achieved_rates_of_planted_seconds(modules):
    flops = {"product": 100, "clean": 200, "wavefront": 300}
    found = modules.sweep.achieved(flops, {"product": 1.0, "clean": 4.0, "wavefront": 4.0})
    assert found["flops_per_second"] == {"product": 100, "clean": 50, "wavefront": 75}
    assert (found["clean_of_product"], found["wavefront_of_product"]) == (0.5, 0.75)
    assert modules.sweep.achieved(flops, {"product": 1.0, "clean": 4.0})["wavefront_of_product"] is None


def test_a_clean_pass_and_plain_products_are_counted_as_torch_does(modules, model):
    bench = object.__new__(modules.sweep.Bench)
    bench._matrices = [p.detach() for p in model.model.layers.parameters() if p.dim() == 2]
    bench._states = {width: torch.randn(16, width) for width in {matrix.shape[1] for matrix in bench._matrices}}
    facts = modules.workload.facts_of(model.config)
    with FlopCounterMode(display=False) as counter:
        bench._products(16)
    blocks = int(modules.sweep.block_numbers(facts).sum())
    assert counter.get_total_flops() == modules.sweep.CLEAN_PASSES * 2 * 16 * blocks
    point = modules.workload.Point(LAYERS, 1, 1)  # a token attends to itself alone
    rest = 4 * LAYERS * facts.width + 2 * facts.width * VOCAB
    assert modules.sweep.clean_flops(point, facts) == modules.workload.BATCH * (2 * blocks + rest)


def test_one_point_is_one_json_object(modules, monkeypatch, capsys):
    asked = "--quick --json --layers 2 --tokens 5 --vectors 2 --width 64 --vocab 50".split()
    monkeypatch.setattr(sys, "argv", ["sweep.py", *asked])
    modules.sweep.main()
    found = json.loads(capsys.readouterr().out)
    assert found["points"] == [{name: found[name] for name in found["points"][0]}]
    assert (found["layers"], found["tokens"], found["vectors"], found["cells"]) == (2, 5, 2, 4)
    assert found["largest_difference"] < TOLERANCE
    assert found["hooks_over_pyvene"] is None and found["seconds"]["hooks"] > 0
    assert found["flops"]["wavefront"] > found["flops"]["clean"] > found["flops"]["product"] > 0
    assert found["wavefront_of_product"] > 0 and found["clean_of_product"] > 0
    seconds = found["seconds"]
    assert found["hooks_over_wavefront"] == pytest.approx(seconds["hooks"] / seconds["wavefront"], rel=0.2)


def test_packs_of_each_budget_are_tried(modules):
    """The one that the library picks among them, and what it costs beside the best one."""
    bench = modules.gpu.Bench("tiny", [16, 512], torch.device("cpu"), torch.float32)
    row = bench.measure(modules.workload.Point(4, 6, 2), repeats=1)
    taken = {name: seconds for name, seconds in row["seconds"].items() if name.startswith("packs")}
    assert set(taken) == {f"packs of {tokens}" for tokens in (16, 512, row["picked"])}
    assert row["regret"] == pytest.approx(taken[f"packs of {row['picked']}"] / min(taken.values()), rel=1e-3)
    assert row["bound_token_layers"] == 8 * (6 * 4 + 2 * (3 + 2 + 1 + 0)) and "regret" in modules.gpu.line(row)


def test_decoding_by_hand_and_in_one_pass_agree(modules, model):
    prompts = modules.decodability.demonstrations(3, shots=3, row=5, vocab=VOCAB)
    engine = LocalEngine(model, modules.workload.tokenizer())
    one, loop = modules.decodability.ours(engine, prompts), modules.decodability.by_hand(model, prompts)
    assert one.states.shape == (3, LAYERS, 4, WIDTH)
    torch.testing.assert_close(one.states, loop.states, atol=TOLERANCE, rtol=TOLERANCE)
    # both sides: another number of shots, and another layer, is another state
    assert (one.states[:, :, 1:] - loop.states[:, :, :-1]).abs().amax(-1).min() > 100 * TOLERANCE
    assert (one.states[:, 1:] - loop.states[:, :-1]).abs().amax(-1).min() > 100 * TOLERANCE
    assert (one.right == loop.right).all()
    # rows of five tokens: three of input, the answer, a separator; the query ends before its answer
    assert modules.decodability.lengths(prompts[0]) == [3, 8, 13, 18] and len(prompts[0].token_ids) == 18


def test_parameters_and_operations_are_those_of_the_model(modules):
    """Against transformers' own module and PyTorch's counter of operations, on unequal sizes."""
    config = LlamaConfig(
        num_hidden_layers=3, hidden_size=48, intermediate_size=80, num_attention_heads=6, num_key_value_heads=2,
        vocab_size=70, attn_implementation="eager",
    )  # fmt: skip
    small = LlamaForCausalLM(config).eval()
    shape = modules.scale.shape_of(config.to_dict())
    assert shape.parameters == sum(parameter.numel() for parameter in small.parameters())
    tokens = 11
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        small(torch.zeros((1, tokens), dtype=torch.long), use_cache=False)
    # eager attention computes every pair
    assert counter.get_total_flops() == shape.flops(tokens * 3, tokens**2 * 3, tokens)


def test_scale_counts_as_the_library_does(modules, swept):
    scale, facts, budget = modules.scale, swept.facts, Budget(tokens=40)
    group = modules.workload.group_of(swept.prompts[:1] * 5, swept.cells)
    cost = cost_of(modules.workload.plan_of(group, facts), "wavefront", budget)
    found = scale.counted(group, facts, "wavefront", budget)
    assert (found["forwards"], found["tokens"], found["token_layers"]) == (cost.packs, cost.tokens, cost.token_layers)
    loop = scale.counted(group, facts, "loop", budget)
    assert (loop["forwards"], loop["token_layers"]) == (cost.loop_forwards, cost.loop_token_layers)


def test_the_paper_study_is_that_of_llama_70b(modules):
    shape = modules.scale.shape_of(modules.scale.LLAMA_3_1_70B)
    assert round(shape.parameters / 1e9, 2) == 70.55  # as its card says
    args = modules.scale.arguments(["--queries", "1", "--tokens", "16"])
    found = modules.scale.compared(shape, args)
    ways = found["ways"]
    assert ways["loop"]["forwards"] == 7 * (80 * 7 + 1)
    assert ways["wavefront"]["token_layers"] == found["bound_token_layers"]
    assert ways["loop"]["flops"] > ways["wavefront"]["flops"]


def test_ways_of_reading_outcomes_give_the_same_effects(modules, tmp_path):
    """The benchmark's plain ways against the library's, which its script asserts at every size."""
    outcomes = modules.outcomes
    outcomes.write(tmp_path / "outcomes.parquet", queries=7, cells=6, heads=2)
    bootstrap = Bootstrap(20, 0.95, 0)
    made = {way: work(tmp_path / "outcomes.parquet", bootstrap) for way, work in outcomes.WAYS.items()}
    made["index"].write_parquet(tmp_path / "index.parquet")
    assert len(made["index"]) == 3 * 6 * 3
    for table in made.values():
        outcomes.must_agree(table, tmp_path / "index.parquet")
    with pytest.raises(AssertionError):
        outcomes.must_agree(made["lists"].with_columns(pl.col("ci_low") + 1e-6), tmp_path / "index.parquet")


def test_the_page_of_a_made_folder_is_a_runs(modules, tmp_path):
    """What the benchmark of the page writes can be opened, and all bytes of its page are counted."""
    sizes = {"layers": 4, "vectors": 2, "tasks": 3, "queries": 5}
    modules.page_folder.write(tmp_path, **sizes)
    run = pb.open(tmp_path)
    controls = len(modules.page_folder.CONTROLS)
    assert len(run.outcomes) == 4 * 2 * 3 * 5 * controls * len(modules.page_folder.METRICS)
    assert run.effects["n"].unique().to_list() == [5]
    assert run.summary["interventions"]["vector0"]["best_layer"] in (1, 2)  # planted at two fifths of the depth
    text = run.write_report().read_text(encoding="utf-8")
    parts = modules.page.parts_of(text)
    assert sum(parts.values()) == len(text.encode()) and min(parts.values()) > 0


@pytest.fixture(scope="module")
def run(llama_folder, tmp_path_factory) -> pb.Run:
    """A sweep of the tiny model with the vectors that the benchmark on a real model has."""
    tree = tiny_tree(
        llama_folder, controls=["other_task", "random"], metrics=["accuracy", "logprob"], decodability=None
    )
    return pb.run(pb.load(tree), out=tmp_path_factory.mktemp("sweep") / "run")


@pytest.mark.parametrize("peer", ["hooks", "spared_hooks", "cached_hooks", "nnsight"])
def test_peers_of_the_real_model_compute_a_runs_outcomes(modules, run, llama_folder, peer, tmp_path):
    """Prompts and vectors go to them through the run folder; answers come back in the order of the run's cells."""
    peers, module = modules.peers, importlib.import_module(f"peers.{peer}")
    peers.write_batches(modules.real_sweep.batches_of(run), tmp_path)
    model, tokenizer = module.load(str(llama_folder)), AutoTokenizer.from_pretrained(llama_folder, padding_side="left")
    found = {}
    for batch in peers.read_batches(tmp_path):
        logprobs, right = peers.outcomes(module.last_logits(model, tokenizer, batch), tokenizer, batch)
        found |= {f"{batch.task}/logprob": logprobs, f"{batch.task}/right": right}
    ours = modules.real_sweep.our_outcomes(run)
    assert ours["AND/logprob"].shape == (3, 2, 3)  # vectors, layers, queries
    apart = modules.real_sweep.difference(found, ours)
    assert apart["nats"] < TOLERANCE and apart["flips"] == 0 and apart["of"] == 3 * 3 * 2 * 3
    for axis in range(3):  # another vector, layer or query is another outcome
        moved = {name: value.roll(1, axis) for name, value in found.items()}
        assert modules.real_sweep.difference(moved, ours)["nats"] > 100 * TOLERANCE


def test_peers_may_take_some_of_the_layers(modules, run):
    some, whole = (modules.real_sweep.batches_of(run, every)[0] for every in (2, 1))
    assert (some.layers, whole.layers) == ([2], [1, 2]) and some.vectors.equal(whole.vectors[:, 1:])
    ours, of_some = modules.real_sweep.our_outcomes(run), modules.real_sweep.our_outcomes(run, 2)
    assert all(of_some[name].equal(values[:, 1:]) for name, values in ours.items())


@pytest.fixture(scope="module")
def pairs_of_names(modules, tmp_path_factory):
    """A random model that has a token for each name, its folder's study of few sentences, and these for the peers."""
    folder = saved_ioi_model(tmp_path_factory.mktemp("model"), "llama")
    study = load_study(modules.circuits.SPEC, {"model.name": str(folder), "prompts.queries": 3})
    receivers = [[2, 1], [3, 0]]
    return folder, study, modules.circuits.pairs_of(study, 1, receivers)


@pytest.mark.parametrize("work", ["positions", "heads", "logits", "movers"])
def test_hooks_do_each_work_of_circuits_as_the_library_does(modules, pairs_of_names, work):
    folder, study, pairs = pairs_of_names
    section = modules.circuits.intervention_of(work, len(pairs.base[0]), pairs.receivers)
    run = pb.run(study_of({**study.tree, "interventions": {work: section}}))
    ours = modules.circuits.our_differences(run, work, pairs)
    model = modules.circuit_hooks.load(str(folder))
    by_hand = modules.circuit_hooks.WORKS[work](model, pairs)
    torch.testing.assert_close(ours.float(), by_hand, atol=TOLERANCE, rtol=TOLERANCE)
    clean = pairs.difference(model(torch.tensor(pairs.base)).logits)
    moved = (by_hand - clean).abs().amax(1)
    assert len(by_hand) == len(pairs.cells(work)) and moved.max() > 100 * TOLERANCE
