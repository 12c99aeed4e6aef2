"""Shared fixtures: small random models as folders in the Hub's format, and specs over them."""

from __future__ import annotations

import base64
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drawn_numbers import hold_against_its_numbers

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["WANDB_MODE"] = "disabled"  # tests/track opens W&B runs, each in an environment of its own
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: idle threads sleep instead of spinning
if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers fill the cores; their threads would wait for each other

ROOT = Path(__file__).parents[1]


def pytest_collection_finish() -> None:
    """What is imported stays: going through it again and again for cycles took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True)
def nothing_registered_stays() -> Iterator[None]:
    """Registries hold after each test what they held before it."""
    yield
    if "patchboard.plugin_files" not in sys.modules:
        return
    from patchboard import plugin_files
    from patchboard.registry import Registry

    plugin_files.use_in_process(())
    plugin_files.activate(())
    for registry in Registry.all:
        for kind in ("session", "distribution"):
            for name in registry.enrolments(kind):
                registry.remove(name)
    plugin_files._entry_points_loaded.clear()


BLANK = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==")
"""A white PNG of one pixel."""


@pytest.fixture(scope="module", autouse=True)
def figures_are_blank(request) -> Iterator[None]:
    """Figures of a page are made but not rasterised; in modules marked ``rasterised`` they are. Everywhere each is held
    against the numbers that lie beside it: a new figure is tested for that by being drawn once.

    They take half of a small run's time. So in the default suite a module's first run has them, and further ones only
    where the module is marked ``drawn`` or ``rasterised``."""
    from patchboard.report.drawing import Drawing

    rasterised, all_runs = (request.node.get_closest_marker(name) for name in ("rasterised", "drawn"))
    drawn = Drawing.png if rasterised else lambda drawing: BLANK
    quick = "not slow" in request.config.getoption("markexpr")

    def png(drawing: Drawing) -> bytes:
        hold_against_its_numbers(drawing)
        return drawn(drawing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Drawing, "png", png)
        if quick and not (rasterised or all_runs):
            patch.setattr("patchboard.report.page.drawings", _of_the_first_run())
        yield


def _of_the_first_run() -> Callable[[Any], Iterator[Any]]:
    """``page.drawings``, but of one run folder alone, however often it is drawn."""
    from patchboard.report.page import drawings

    first: list[Path] = []

    def drawn(run: Any) -> Iterator[Any]:
        folder = run.folder.resolve()
        first[:] = first or [folder]
        return drawings(run) if first == [folder] else iter(())

    return drawn


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory) -> Path:
    """A random Llama of four layers over the embedded vocabulary, saved with its tokenizer."""
    from tests.models import random_model, save

    return save(random_model("llama"), tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory) -> Path:
    """A random GPT-2 over the embedded vocabulary, saved with its tokenizer."""
    from tests.models import random_model, save

    return save(random_model("gpt2"), tmp_path_factory.mktemp("gpt2"))


@pytest.fixture
def small_tree(llama_folder) -> dict:
    return small_tree_of(llama_folder)


def small_tree_of(llama_folder: Path) -> dict:
    """A spec that runs in seconds and has every op, control and metric in it."""
    vector = {"mean": "same_task", "shots": 2, "prompts": 6}
    return {
        "name": "small",
        "model": {"name": str(llama_folder)},
        "tasks": {"family": "bitwise", "bits": 4, "only": ["AND", "OR", "XOR"]},
        "prompts": {"shots": {"sweep": [0, 2]}, "queries": 5},
        "interventions": {
            "positive": {"op": "patch", "vector": vector},
            "added": {
                "op": "add",
                "vector": {**vector, "mean": None, "difference": ["same_task", "all_tasks"]},
                "strength": {"sweep": [0, 1.5]},
                "layers": "1:3",
            },
            "negative": {"op": "patch", "vector": {**vector, "mean": "null_task"}, "layers": [0, 3]},
            "erased": {"op": "ablate", "vector": {**vector, "mean": None, "subspace": "tasks", "rank": 2}},
            "leace": {
                "op": "ablate",
                "vector": {**vector, "mean": None, "subspace": "tasks", "method": "leace", "prompts": 12},
                "layers": 2,
            },
            "function": {
                "op": "add",
                "vector": {**vector, "mean": None, "function_vector": "same_task", "heads": [[1, 0], [3, 2], [1, 3]]},
                "layers": [0, 2],
            },
            "zeroed": {"op": "zero", "site": "attn_out", "layers": [1]},
            "scaled": {"op": "scale", "strength": 2, "site": "mlp_out", "layers": [1]},
            "whole": {"op": "patch", "vector": vector, "layers": {"together": "all"}},
            "several": {
                "edits": [
                    {"op": "add", "vector": vector, "layers": [0, 2]},
                    {"op": "zero", "site": "mlp_out", "layers": 1, "position": "query"},
                ]
            },
        },
        "controls": ["self", {"random": {"draws": 2}}, "other_task"],
        "metrics": ["accuracy", "logprob", "probability", "rank", "kl", "logit_difference"],
        "decodability": {"k": 3, "prompts": 6, "shots": [0, 2]},
        "statistics": {"bootstrap": 200},
    }


@pytest.fixture
def served(monkeypatch, tmp_path) -> Iterator[Callable[[Any], None]]:
    """served(hub): this process's Hub is the stand-in (``tests.hub_server``), with an empty cache."""
    from huggingface_hub import close_session, constants

    from patchboard import hub

    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    close_session()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_SILENT", {})

    def there(server: Any) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )

    yield there
    close_session()
