"""Plug-in files for the tests, and registries that hold what they held before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from patchboard import plugin_files
from patchboard.plugin_files import activate, use_in_process
from patchboard.registry import Registry

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


@pytest.fixture(autouse=True)
def nothing_registered_stays() -> Iterator[None]:
    yield
    use_in_process(())
    activate(())
    for registry in Registry.all:
        for kind in ("session", "distribution"):
            for name in registry.enrolments(kind):
                registry.remove(name)
    plugin_files._entry_points_loaded.clear()


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[..., Path]:
    """Writes a plug-in file."""

    def write(text: str = CLAMP, name: str = "my_ops.py") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write
