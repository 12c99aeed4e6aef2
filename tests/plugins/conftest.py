"""Plug-in files for the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

CLAMP = '''
import patchboard as pb


@pb.register.op("clamp")
class Clamp:
    """h moved towards the vector, by at most 1 a coordinate."""

    operand, neutral = "vector", 0.0

    @staticmethod
    def apply(h, operand, strength):
        return h + strength * (operand - h).clamp(-LIMIT, LIMIT)


LIMIT = 1.0
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[..., Path]:
    """Writes a plug-in file."""

    def write(text: str = CLAMP, name: str = "my_ops.py") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write
