"""Requests hold plain data and source that a server can run; answers hold what was measured. No server here."""

from __future__ import annotations

import ast
import inspect
import io
import pickletools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from patchboard.engine import (
    cutting,
    job_body,
    joining,
    later,
    masks,
    noise,
    pattern,
    projection,
    read_out,
    record,
    scores,
    sites,
    states,
    steps,
    top_tokens,
    trace,
    wiring,
)
from patchboard.engine.batch import make_batch
from patchboard.engine.job_body import answer_job, byte_planes
from patchboard.engine.local import LocalEngine
from patchboard.engine.ndif.answer_bytes import largest_answer
from patchboard.engine.ndif.answers import BadAnswer, floats_of, opened_answer, values_of
from patchboard.engine.ndif.job_data import OF_EACH_PACK, job_data
from patchboard.engine.ndif.jobs import Sizes, cell_jobs, decoding_jobs, recipes_of, slots_of
from patchboard.engine.ndif.payload import Shell, tools_of
from patchboard.engine.pack_scores import pack_layout
from patchboard.engine.record import Record, fields_of, opened, sealed
from patchboard.execution.run import open_model
from patchboard.measure import nearest
from patchboard.measure.nearest import voted
from patchboard.measure.outcomes import combined
from patchboard.metrics import METRICS
from patchboard.ops import feature_tensors
from patchboard.plan.build import build_plans
from patchboard.plan.packs import Budget, packs_of
from patchboard.plan.shown import most_kept
from patchboard.spec.load import load_study
from patchboard.vectors import function, make, statistics, subspace
from patchboard.vectors.dictionaries import named
from patchboard.vectors.fitters import FITTERS
from tests.contract.tiny import write
from tests.remote.runs import as_client, tree_of

ON_EVERY_SERVER = {
    "torch", "numpy", "builtins", "typing", "collections", "functools", "math", "operator", "dataclasses", "enum",
    "cloudpickle", "pickle", "copyreg", "nnsight", "transformers",
}  # fmt: skip
"""Of NDIF's published whitelist, what a request of ours may name."""

TRAVELLING = (
    trace,
    wiring,
    masks,
    states,
    scores,
    read_out,
    top_tokens,
    joining,
    cutting,
    later,
    noise,
    pattern,
    sites,
    record,
    steps,
    projection,
    job_body,
    make,
    function,
    statistics,
    nearest,
    named,
    feature_tensors,
)


@pytest.fixture(scope="module")
def plan(llama_snapshot, server_of_module, tmp_path_factory):
    tree = tree_of(llama_snapshot, prompts={"shots": 1, "queries": 6}, controls=["self", "random", "shuffled"])
    for section in tree["interventions"].values():
        section.get("vector", {})["shots"] = 2
    spec = write(tree, tmp_path_factory.mktemp("spec") / "spec.yaml")
    with as_client(llama_snapshot, server_of_module):
        (found,) = build_plans(load_study(spec), open_model)
    return found


@pytest.fixture(scope="module")
def server_of_module(servers):
    return servers()


@pytest.fixture(scope="module")
def jobs(plan):
    packs = [(group, pack) for group in plan.groups for pack in packs_of(group, plan.facts, "auto", Budget())]
    sizes = Sizes(job_tokens=400)
    return [*cell_jobs(plan, packs, sizes, "base"), *decoding_jobs(plan, sizes, "base")], sizes


@pytest.fixture(scope="module")
def shell(plan, llama_snapshot, server_of_module):
    with as_client(llama_snapshot, server_of_module):
        return Shell(plan.section, open_model(plan.section)[0])


METRICS_OF_ALL = {name: METRICS.get(name, "") for name in METRICS.names() if name != "conversion"}
TOOLS = tools_of((), FITTERS.names(), METRICS_OF_ALL, combined, voted)


def named(payload: bytes) -> Iterator[tuple[str, str]]:
    """(module, name) of everything that unpickling the request would look up."""
    texts: list[str] = []
    memo: dict[int, str] = {}
    for op, argument, _ in pickletools.genops(zstandard.ZstdDecompressor().decompress(payload)):
        if op.name in ("SHORT_BINUNICODE", "BINUNICODE"):
            texts.append(argument)
        elif op.name == "MEMOIZE":
            memo[len(memo)] = texts[-1] if texts else ""
        elif op.name in ("BINGET", "LONG_BINGET"):
            texts.append(memo[argument])
        elif op.name == "STACK_GLOBAL":
            yield texts[-2], texts[-1]
        elif op.name == "GLOBAL":
            module, name = argument.split(" ", 1)
            yield module, name


def test_a_request_names_only_what_every_server_has(plan, jobs, shell):
    some, sizes = jobs
    for job in (some[0], some[-1]):
        found = set(named(shell.payload(job_data(plan, job, shell.config, sizes), TOOLS)))
        assert {module.split(".")[0] for module, _ in found} <= ON_EVERY_SERVER, found
        # source, not bytecode, which another Python could not load
        assert not {name for _, name in found} & {"CodeType", "_make_function", "_builtin_type.CodeType", "loads"}


def test_the_reading_test_sees_a_foreign_name(shell):
    import polars

    tools = {**TOOLS, "voted": polars.DataFrame}
    data = {"key": "k"}
    assert "polars" in {module.split(".")[0] for module, _ in named(shell.payload(data, tools))}


def test_modules_that_travel_make_no_class_without_source():
    """A dataclass's methods and a NamedTuple's are made, not written: they would go as bytecode."""
    for module in TRAVELLING:
        tree = ast.parse(inspect.getsource(module))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                assert not node.decorator_list, f"{module.__name__}.{node.name}"
                assert {ast.unparse(base) for base in node.bases} <= {"Exception"}, f"{module.__name__}.{node.name}"
    assert {name for name, _ in inspect.getmembers(subspace, inspect.isclass)}  # it imports LEACE, but stays at home


def test_remote_local_equals_the_local_engine(plan, jobs, local_model, llama_snapshot, server_of_module):
    """nnsight's own dry run: the request written, our modules hidden, read back and run here."""
    from transformers import AutoTokenizer

    some, sizes = jobs
    engine = LocalEngine(local_model._module, AutoTokenizer.from_pretrained(llama_snapshot.folder))
    made = engine.fit(plan.fits)
    operands = make.make_here(plan.recipes, made, engine.projected)
    scorers = {name: TOOLS["scorers"][name] for name in ("accuracy", "logprob", "kl")}
    tools = {**TOOLS, "scorers": scorers}
    job = some[0]
    data = job_data(plan, job, engine.module.config, sizes)
    assert [fit["judge"] and fit["judge"][0] for fit in data["fits"]] == [None, plan.fits[0].id], "of shuffled answers"
    traced = engine.traced  # alone: what the body names is written into the request
    with traced.session(remote="local"):
        answer = answer_job(traced, data, tools)
        answer.save()
    floats = floats_of(answer["scores"]["logprob"])
    expected: list[np.ndarray] = []
    kept: dict[str, list[np.ndarray]] = {}
    for group, pack in job.packs:
        found = engine.score_pack(group, pack, operands, scorers)
        starts = np.flatnonzero(found.token == 0)
        own = [not group.copies[c].target for c in found.copy[starts].tolist()]
        expected.append(combined(METRICS.get("logprob", "").combine, found.scores["logprob"], starts)[own])
        for name, values in (found.top or {}).items():
            kept.setdefault(name, []).append(values.ravel())
    np.testing.assert_array_equal(floats, np.concatenate(expected))
    assert answer["top"].keys() == kept.keys() == {"ids", "logprobs", "answer", "rank"}
    for name, values in kept.items():
        kind = torch.int32 if name in ("ids", "rank") else torch.float32
        np.testing.assert_array_equal(values_of(answer["top"][name], kind), np.concatenate(values))


def test_a_structure_and_its_tokens_are_the_batch(plan, jobs):
    """Sending the shape of prompts once loses nothing of any pack."""
    some, sizes = jobs
    count = 0
    for job in [job for job in some if job.packs]:
        data = job_data(plan, job, shell_config(plan), sizes)
        assert len(data["structures"]) <= len(data["packs"])
        for (group, pack), (number, own) in zip(job.packs, data["packs"], strict=True):
            structure, _, _, slots = data["structures"][number]
            got = vars(opened(structure, "cpu")) | dict(zip(OF_EACH_PACK, (opened(o, "cpu") for o in own), strict=True))
            expected = vars(opened(sealed(make_batch(pack_layout(group, pack))), "cpu"))
            assert flat(got) == flat(expected)
            assert [list(slots_of(job))[i] for i in opened(slots, "cpu").tolist()] == [
                (group.id, c) for c in pack.copies
            ]
            count += 1
    assert count > 3


def shell_config(plan):
    from transformers import LlamaConfig

    return LlamaConfig(num_hidden_layers=plan.facts.layers, num_attention_heads=plan.facts.heads)


def flat(value) -> object:
    """Tensors as lists, records as dicts, keys in order."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, Record):
        return flat(vars(value))
    if isinstance(value, dict):
        return {str(key): flat(value[key]) for key in sorted(value, key=str)}
    return [flat(each) for each in value] if isinstance(value, (list, tuple)) else value


@given(arrays(np.int64, array_shapes(min_dims=0, max_dims=3, min_side=0), elements=st.integers(-(2**40), 2**40)))
def test_integers_come_back(values):
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    back = opened(sealed(tensor), "cpu")
    assert back.dtype == torch.int64 and back.shape == tensor.shape and torch.equal(back, tensor)


def test_records_come_back():
    inner = Record(a=torch.arange(3), b=None, c=("x", 1.5))
    back = opened(sealed(Record(one={0: inner}, two=[True, torch.ones(2, 1)])), "cpu")
    assert torch.equal(back.one[0].a, torch.arange(3)) and back.one[0].b is None and back.one[0].c == ("x", 1.5)
    assert back.two[0] is True and torch.equal(back.two[1], torch.ones(2, 1))
    assert fields_of(back).keys() == {"one", "two"}


@given(arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)))
def test_scores_come_home_to_the_bit(values):
    back = floats_of(byte_planes(torch.from_numpy(values.copy())))
    np.testing.assert_array_equal(back.view(np.uint32), values.view(np.uint32))


def test_no_answer_is_larger_than_planned(plan, jobs):
    """Of noise, which nothing compresses; and the bound is not far above it."""
    for job in jobs[0]:
        noise = torch.Generator().manual_seed(0)

        def drawn(*shape, noise=noise):
            return torch.randint(0, 256, shape, dtype=torch.uint8, generator=noise)

        answer = {"key": job.key, "dtype": "torch.bfloat16", "device": "cuda", "torch": "2.13.0+cu130",
                  "autocast": True, "fits_finite": True, "lacking": sorted(plan.fits[0].prompts)}  # fmt: skip
        if job.decoding:
            points = job.answers // len(job.layers)
            answer |= {"votes": drawn(2 * job.answers).view(torch.int16), "hits": drawn(points), "finite": True}
        else:
            recipes = recipes_of(plan, job.packs)
            width, kept = plan.facts.width, sum(most_kept(g, pack.prompts, pack.copies) for g, pack in job.packs)
            answer |= {"top": {"ids": drawn(4, 3 * kept), "logprobs": drawn(4, 3 * kept), "answer": drawn(4, kept),
                               "rank": drawn(4, kept)}}  # fmt: skip
            answer |= {"scores": {name: drawn(4, job.own_answers) for name in ("logprob", "kl")},
                       "hits_of_packs": drawn(job.answers), "moved": drawn(4 * len(slots_of(job))).view(torch.float32),
                       "vectors": {key: {"left": drawn(4, width, recipe.rank), "right": drawn(4, width, recipe.rank),
                                         "center": drawn(4, width)} if recipe.rank else drawn(4, width)
                                   for key, recipe in recipes.items()}}  # fmt: skip
        buffer = io.BytesIO()
        torch.save({"answer": answer}, buffer)
        size = len(zstandard.ZstdCompressor().compress(buffer.getvalue()))
        most = largest_answer(plan, job, 2, vectors=True)
        containers = 3700 + 900 * len(recipes_of(plan, job.packs))  # a subspace is three tensors
        assert size <= most < 1.05 * size + containers


@pytest.mark.parametrize("content", [b"", b"noise", zstandard.ZstdCompressor().compress(b"not a tensor")])
def test_what_is_no_answer_is_refused(jobs, content):
    with pytest.raises(BadAnswer):
        opened_answer(content, jobs[0][0], 1, 1)


def test_an_answer_runs_no_code(jobs, tmp_path):
    """A result that would call a function when unpickled."""

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "made"), "w"))

    buffer = io.BytesIO()
    torch.save({"answer": Evil()}, buffer)
    with pytest.raises(BadAnswer, match="cannot be read"):
        opened_answer(zstandard.ZstdCompressor().compress(buffer.getvalue()), jobs[0][0], 1, 1)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({}, ""),
        ({"ids": torch.full((6,), 83)}, "ids of tokens of 83 to 83, expected 0 to 82"),
        ({"rank": torch.zeros(2)}, "rank of tokens of 0 to 0, expected 1 to 83"),
        ({"logprobs": torch.zeros(5)}, "numbers of likeliest tokens, expected"),
        (None, "numbers of likeliest tokens, expected"),
    ],
)
def test_tokens_that_no_model_has_are_refused(jobs, change, what):
    """And others than were asked for: three of each of two distributions."""
    job = next(job for job in jobs[0] if job.packs)
    top = {"ids": torch.arange(6), "rank": torch.ones(2), "logprobs": torch.zeros(6), "answer": torch.zeros(2)}
    kinds = {"ids": torch.int32, "rank": torch.int32}
    sent = {} if change is None else top | change
    answer = {
        "key": job.key, "fits_finite": True, "dtype": "", "device": "", "torch": "", "autocast": False, "lacking": [],
        "scores": {"logprob": byte_planes(torch.zeros(1))}, "hits_of_packs": torch.zeros(1, dtype=torch.uint8),
        "moved": torch.zeros(len(slots_of(job))),
        "top": {name: byte_planes(values.to(kinds.get(name, torch.float32))) for name, values in sent.items()},
    }  # fmt: skip
    buffer = io.BytesIO()
    torch.save({"answer": answer}, buffer)
    content = zstandard.ZstdCompressor().compress(buffer.getvalue())
    if not what:
        found = opened_answer(content, job, 1, 1, 2, 83).top
        assert found is not None and found["ids"].tolist() == [*range(6)] and found["rank"].tolist() == [1, 1]
        return
    with pytest.raises(BadAnswer, match=what):
        opened_answer(content, job, 1, 1, 2, 83)
