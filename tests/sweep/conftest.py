"""A spec to sweep, and children that find the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.contract.tiny import tiny_tree, write


@pytest.fixture(scope="module")
def place(tmp_path_factory, llama_folder) -> Path:
    """A folder with ``tiny.yaml``, for sweep files and what they leave."""
    folder = tmp_path_factory.mktemp("sweep")
    write(tiny_tree(llama_folder), folder / "tiny.yaml")
    return folder


@pytest.fixture(autouse=True)
def children_find_us(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
