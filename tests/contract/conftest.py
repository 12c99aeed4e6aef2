"""What runs of these tests are made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.cases import write_cases


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    """A file of rows with a source ``flip`` and spans, as tests/contract/cases.py writes them."""
    return write_cases(tmp_path_factory.mktemp("cases") / "cases.jsonl")
