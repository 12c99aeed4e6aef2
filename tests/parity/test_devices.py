"""Models whose weights accelerate keeps elsewhere, and dtypes: the same numbers, within each dtype's rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from patchboard.embedded.tokenizer import build
from patchboard.engine.device import device_of
from patchboard.engine.exactness import TOLERANCE
from patchboard.engine.local import LocalEngine
from patchboard.metrics import METRICS
from patchboard.plan.cells import OWN_STATE, Edit
from patchboard.plan.model import Counterfactual, Group, Pack
from tests.models import random_model, unequal_prompts


def group() -> Group:
    prompts = tuple(unequal_prompts())
    copies = [Counterfactual(), Counterfactual((Edit("patch", "resid_post", 2, '"last"', 1.0, OWN_STATE),))]
    copies += [Counterfactual((Edit("patch", "resid_post", layer, '"last"', 1.0, "v"),)) for layer in range(4)]
    copies += [Counterfactual((Edit("zero", "attn_out", layer, '"query"', 1.0),)) for layer in range(4)]
    return Group("g", "A", 2, 0, prompts, (-1,) * len(prompts), tuple(copies), 1, (), ("logprob",))


def logprobs(model, way: str) -> np.ndarray:
    engine, made = LocalEngine(model, build()), group()
    vector = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(3))
    pack = Pack(made.id, range(len(made.prompts)), tuple(range(len(made.copies))), way)
    found = engine.score_pack(made, pack, engine.place({"v": vector}), {"logprob": METRICS.get("logprob", "").score})
    order = np.lexsort((found.token, found.copy, found.prompt))
    return found.scores["logprob"][order]


@pytest.mark.parametrize("way", ["wavefront", "rows"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_weights_offloaded_to_disk_give_the_same(family, way, tmp_path):
    """accelerate's hooks bring each block's weights in as it runs; ours must see through them."""
    random_model(family).save_pretrained(tmp_path / "model")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    blocks = "transformer.h" if family == "gpt2" else "model.layers"
    names = {
        name.split(".")[0] if "." not in name else ".".join(name.split(".")[:2]) for name, _ in whole.named_parameters()
    }
    places = {name: "cpu" for name in names if not name.startswith(blocks)}
    places |= {f"{blocks}.{layer}": "disk" if layer % 2 else "cpu" for layer in range(4)} | {"lm_head": "cpu"}
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", dtype=torch.float32, device_map=places, offload_folder=tmp_path / "disk"
    ).eval()
    assert any(parameter.device.type == "meta" for parameter in model.parameters()), "nothing was offloaded"
    assert device_of(model) == torch.device("cpu")
    assert np.abs(logprobs(model, way) - logprobs(whole, way)).max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_stays_within_the_tolerance_that_runs_use(dtype):
    model = random_model("llama").to(dtype)
    shared, rows = logprobs(model, "wavefront"), logprobs(model, "rows")
    exact = logprobs(random_model("llama"), "rows")
    assert np.abs(shared - rows).max() < TOLERANCE[str(dtype)] / 5
    assert np.abs(shared - exact).max() < TOLERANCE[str(dtype)]


@pytest.mark.gpu
@pytest.mark.parametrize("way", ["wavefront", "rows"])
def test_a_gpu_gives_the_same(way):
    torch.backends.cuda.matmul.allow_tf32 = False
    on_gpu = logprobs(random_model("llama").to("cuda"), way)
    assert np.abs(on_gpu - logprobs(random_model("llama"), way)).max() < 1e-3
