"""The loopback server speaks NDIF's protocol: stock nnsight clients get from it what a local run gives."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.remote.conftest import KEY
from tests.remote.stock import IDS, backend_of, blocking, polled, remote_error, submitted

pytestmark = pytest.mark.slow
"""Of the server itself; our client is tested in the default suite."""


def edited(model: Any, where: dict[str, Any]) -> dict[str, Tensor]:
    """An edit in place at block 1, and what comes of it."""
    with model.trace(IDS, **where):
        h = model.model.layers[1].output
        h[:, -1] = h[:, -1] * 2
        last = model.model.layers[3].output.save()
        logits = model.lm_head.output.save()
    return {"last": last, "logits": logits}


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_blocking_job_equals_a_local_run_to_the_bit(server, client, local_model):
    found = edited(client, {"remote": server.url})
    assert equal(found, edited(local_model, {}))
    assert [entry["kind"] for entry in server.log()] == ["subscribe", "request", "result"]


def test_job_without_blocking_can_be_picked_up_by_its_id(server, client, local_model):
    backend = submitted(client, server.url)
    expected = blocking(local_model, {})
    assert torch.equal(polled(backend)["found"], expected)
    elsewhere = backend_of(client, server.url, job_id=backend.job_id)
    assert torch.equal(elsewhere()["found"], expected)
    assert {entry["id"] for entry in server.log("result")} == {backend.job_id}


def test_job_awaited(server, client, local_model):
    from nnsight.intervention.backends.remote import AsyncRemoteBackend

    backend = AsyncRemoteBackend(client.to_model_key(), host=server.url)
    with client.trace(IDS, backend=backend):
        found = client.model.layers[2].output.save()  # noqa: F841  # comes home as a value of the dict
    with ThreadPoolExecutor(1) as apart:  # in this thread a browser of other tests may have a loop of its own
        result = apart.submit(lambda: asyncio.run(backend.resolve())).result()
    assert result is not None and torch.equal(result["found"], blocking(local_model, {}))


def scaled(h: Tensor, by: float) -> Tensor:
    return h * math.sqrt(by)


def two_traces(model: Any, where: dict[str, Any]) -> dict[str, Any]:
    with model.session(**where):
        found = {}.save()  # pyright: ignore[reportAttributeAccessIssue]
        with model.trace(IDS):
            mean = model.model.layers[1].output.mean(1)
        with model.trace(IDS.flip(1)):
            model.model.layers[2].output[:, -1] = scaled(mean, 3.0)
            found["logits"] = model.lm_head.output
    return found


@pytest.mark.parametrize("options", [(), ("--separate",)], ids=["one process", "separate"])
def test_session_of_two_traces_with_a_helper(servers, client, local_model, options):
    """The helper goes by value, with the standard module that it names; the first trace's value reaches the second."""
    found = two_traces(client, {"remote": servers(*options).url})
    assert equal(found, two_traces(local_model, {}))
    untouched = edited(local_model, {})["logits"]
    assert not torch.equal(found["logits"], untouched)


def test_stock_client_with_nothing_but_its_environment(server, client_env, local_model):
    """A user's script: no weights, the host from NDIF_HOST, the tokenizer from the Hub's cache."""
    script = """
import anyio._backends._asyncio
import json, nnsight, torch
from nnsight import TransformersModel
from nnsight.modeling.huggingface import _ID_CACHE
from transformers import AutoTokenizer
name = "meta-llama/Llama-3.1-70B"
_ID_CACHE[name] = name
model = TransformersModel(name, tokenizer=AutoTokenizer.from_pretrained(name), task="text-generation")
with model.trace(torch.tensor([[1, 6, 7, 8, 9]]), remote=True):
    logits = model.lm_head.output.save()
status = nnsight.status()
print("\\n" + json.dumps({
    "logits": logits.flatten().tolist(), "served": status[name], "running": str(status.status),
    "near": sorted(status), "critical": nnsight.compare().critical_mismatches, "email": nnsight.ndif.whoami()["email"],
}))
"""
    run = subprocess.run([sys.executable, "-c", script], env=client_env, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    with local_model.trace(IDS):
        logits = local_model.lm_head.output.save()
    assert found["logits"] == logits.flatten().tolist()
    assert found["served"]["level"] == "HOT" and found["served"]["hot_replicas"] == 2
    assert "meta-llama/Llama-3.1-8B" in found["near"] and "meta-llama/Llama-3.1-405B" not in found["near"]  # COLD
    assert found["critical"] == {} and found["email"] == "tester@example.org"
    assert server.log("request")[0]["key"] == KEY


def test_a_wrong_key_is_refused_at_submission(servers, client, local_model):
    from nnsight.intervention.backends.remote import RemoteBackend

    server = servers("--key", KEY)
    known = {"backend": RemoteBackend(client.to_model_key(), host=server.url, api_key=KEY)}
    assert torch.equal(blocking(client, known), blocking(local_model, {}))
    with pytest.raises(remote_error(), match="Failed to send request: Missing or invalid API key"):
        edited(client, {"backend": RemoteBackend(client.to_model_key(), host=server.url, api_key="another")})


def test_served_dtype_and_autocast(servers, client):
    """The host decides: bfloat16 weights, and products of a job's own float32 tensors too."""
    server = servers("--dtype", "bfloat16", "--autocast")
    with client.trace(IDS, remote=server.url):
        ones = torch.ones(2, 2)
        dtypes = [str((ones @ ones).dtype), str(client.model.layers[0].output.dtype)].save()  # pyright: ignore
    assert dtypes == ["torch.bfloat16"] * 2


def test_another_model_is_not_deployed(server, client, monkeypatch):
    from nnsight.modeling.huggingface import _ID_CACHE

    monkeypatch.setitem(_ID_CACHE, client.repo_id, "meta-llama/Llama-3.1-405B")
    with pytest.raises(remote_error(), match="Could not deploy this model.*Llama-3.1-405B.*not deployed"):
        edited(client, {"remote": server.url})


def test_queue_tells_positions(server, client):
    """One worker, first come, first served."""
    server.fault("slow", seconds=1.5)
    backends = [backend_of(client, server.url) for _ in range(3)]
    told: list[str] = []
    for backend in backends:
        backend.display.update = lambda response: told.append(response.description)
        with client.trace(IDS, backend=backend):
            found = client.lm_head.output.save()  # noqa: F841
        backend()
    assert any("position 2" in text for text in told)
    for backend in backends:
        assert polled(backend) is not None
    assert [entry["id"] for entry in server.log("request")] == [backend.job_id for backend in backends]
