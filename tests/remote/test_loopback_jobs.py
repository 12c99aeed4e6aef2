"""What a job may do on the loopback server: import, edit, share a place in a file with an earlier job."""

from __future__ import annotations

import importlib.util
import itertools
import linecache
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score
from torch import Tensor

from tests.remote.stock import IDS, remote_error

pytestmark = pytest.mark.slow
"""By their number, and of the server itself: what our client makes of faults is in test_remote_faults."""


def imports_itertools() -> Any:
    from itertools import chain

    return list(chain([1], [2]))


def names_a_global() -> Any:
    return itertools.count()


def test_modules_that_are_not_whitelisted(server, client):
    """In NDIF's words, be it an import in the block or in a helper, or an object in the payload."""
    refused = "Module {} is not whitelisted".format
    with pytest.raises(remote_error(), match=refused("os")), client.trace(IDS, remote=server.url):
        import os

        os.getpid()
    with pytest.raises(remote_error(), match=refused("torch.hub")), client.trace(IDS, remote=server.url):
        from torch import hub

        hub.get_dir()
    with pytest.raises(remote_error(), match=refused("patchboard.ops")), client.trace(IDS, remote=server.url):
        import patchboard.ops

        patchboard.ops.OPS.names()
    with pytest.raises(remote_error(), match=refused("itertools")), client.trace(IDS, remote=server.url):
        imports_itertools().save()
    with pytest.raises(remote_error(), match=refused("itertools")), client.trace(IDS, remote=server.url):
        names_a_global()
    with (
        pytest.raises(remote_error(), match=refused("sklearn.metrics._classification")),
        client.trace(IDS, remote=server.url),
    ):
        accuracy_score([1], [1])
    with client.trace(IDS, remote=server.url):
        import math
        from collections import Counter

        import torch.nn.functional as F

        allowed = [math.floor(2.5), Counter("aab")["a"], F.relu(torch.tensor(-1.0)).item()].save()  # pyright: ignore
    assert allowed == [2, 2, 0.0]


_MODULE = """
def run(model, ids, url):
    with model.session(remote=url):
        with model.trace(ids):
            found = model.model.layers[{layer}].output.save()
    return found
"""


def test_new_text_at_an_old_place_runs_as_it_reads(server, client, local_model, tmp_path):
    """nnsight keeps blocks by file name and line: a server that kept them would run the first text twice."""
    from nnsight.tracing.globals import BLOCKS, SOURCES

    file = tmp_path / "edited_between_runs.py"
    for layer in (0, 2):
        file.write_text(_MODULE.format(layer=layer))
        caches: list[dict[Any, Any]] = [BLOCKS, SOURCES, linecache.cache]  # pyright: ignore[reportAssignmentType]
        for cache in caches:  # as a new client process starts
            for key in [key for key in cache if str(file) in str(key)]:
                del cache[key]
        spec = importlib.util.spec_from_file_location(f"edited_{layer}", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with local_model.trace(IDS):
            expected = local_model.model.layers[layer].output.save()
        assert torch.equal(module.run(client, IDS, server.url), expected)


def in_place_after_read(model: Any, where: dict[str, Any]) -> Tensor:
    with model.trace(IDS, **where):
        h = model.model.layers[1].output
        h.mul_(2)
        logits = model.lm_head.output.save()
    return logits


def in_place_after_assignment(model: Any, where: dict[str, Any]) -> Tensor:
    with model.trace(IDS, **where):
        new = model.model.layers[1].output * 2
        model.model.layers[1].output = new
        new.mul_(0)
        logits = model.lm_head.output.save()
    return logits


def in_place_too_late(model: Any, where: dict[str, Any]) -> Tensor:
    with model.trace(IDS, **where):
        h = model.model.layers[1].output
        h.mul_(2)
        model.model.layers[2].output.save()
        h.mul_(0)
        logits = model.lm_head.output.save()
    return logits


def in_place_where_the_model_holds_on(model: Any, where: dict[str, Any]) -> Tensor:
    """The norm's input is the residual stream itself, which the block adds to later."""
    with model.trace(IDS, **where):
        h = model.model.layers[1].input_layernorm.input
        h.mul_(2)
        logits = model.lm_head.output.save()
    return logits


def assigned_where_the_model_holds_on(model: Any, where: dict[str, Any]) -> Tensor:
    with model.trace(IDS, **where):
        model.model.layers[1].input_layernorm.input = model.model.layers[1].input_layernorm.input * 2
        logits = model.lm_head.output.save()
    return logits


def test_separate_process_copies_at_every_crossing(servers, server, client, local_model):
    """Read: edits in place count until the block goes on. Assigned: only what was assigned counts."""
    together, apart = ({"remote": found.url} for found in (server, servers("--separate")))
    doubled = in_place_after_read(local_model, {})
    assert torch.equal(in_place_after_read(client, together), doubled)
    assert torch.equal(in_place_after_read(client, apart), doubled)
    assert torch.equal(in_place_after_assignment(client, apart), doubled)
    zeroed = in_place_after_assignment(local_model, {})
    assert not torch.equal(zeroed, doubled)  # here, the model's own tensor is emptied
    assert torch.equal(in_place_after_assignment(client, together), zeroed)
    assert torch.equal(in_place_too_late(client, apart), doubled)
    through = in_place_where_the_model_holds_on(local_model, {})
    norm_alone = assigned_where_the_model_holds_on(local_model, {})
    assert not torch.equal(through, norm_alone)
    assert torch.equal(in_place_where_the_model_holds_on(client, together), through)
    assert torch.equal(in_place_where_the_model_holds_on(client, apart), norm_alone)


def test_separate_process_has_no_weights_but_can_call_modules(servers, client, local_model):
    server = servers("--separate")
    with client.trace(IDS, remote=server.url):
        where = str(client.lm_head.weight.device).save()  # pyright: ignore
        early = client.lm_head(client.model.norm(client.model.layers[1].output)).save()
    with local_model.trace(IDS):
        expected = local_model.lm_head(local_model.model.norm(local_model.model.layers[1].output)).save()
    assert where == "meta"
    assert torch.equal(early, expected)
