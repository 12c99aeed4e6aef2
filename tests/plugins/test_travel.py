"""What a user's piece may name where it is sent: refused in one line with the name that cannot travel."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from patchboard.errors import PluginError
from patchboard.plugin_files import activate
from patchboard.plugins.travel import check_pieces_travel, check_travels
from tests.plugins.conftest import CLAMP

HEAD = "import math, os, torch, numpy as np, functools\nimport patchboard as pb\nfrom helpers_of_mine import squash\n"
LACKS = ", which a server does not have"
TWO = "class Two:\n    factor = 2\n    def of(self, h):\n        return h * self.factor\n"
LOCK = "import threading\nlock = threading.Lock()\nheld = [1, {'a': lock}]\n"
TRAVELS = {
    "a helper of the same file": ("def by(h):\n    return two(h)\ndef two(h):\n    return h * 2\n", "by(h)"),
    "a class of the same file": (TWO, "Two().of(h)"),
    "an object of it": (f"{TWO}two = Two()\n", "two.of(h)"),
    "plain data": ("limits = {'a': [1, 2.0, (None, True)]}\n", "h * limits['a'][1]"),
    "tensors and arrays": ("v, w = torch.ones(3), np.ones(3)\n", "h * v.sum() * w[0]"),
    "modules that a server has": ("", "h * math.pi + torch.nn.functional.relu(h) * np.pi"),
    "recursion": ("def down(h, n):\n    return down(h, n - 1) if n else h\n", "down(h, 3)"),
    "ours": ("from patchboard.ops.add import Add\n", "Add.apply(h, operand, strength)"),
}
STAYS = {
    "a helper of another file": ("", "squash(h)", f"'squash' (of module helpers_of_mine{LACKS})"),
    "that file": ("import helpers_of_mine as my\n", "my.squash(h)", f"'my' (module helpers_of_mine{LACKS})"),
    "a module": ("", "h * os.cpu_count()", f"'os' (module os{LACKS})"),
    "a blocked part of torch": ("import torch.hub as hub\n", "hub.load(h)", f"'hub' (module torch.hub{LACKS})"),
    "through a helper": (
        "def by(h):\n    return os.cpu_count() * h\n", "by(h)", f"'by', which names 'os' (module os{LACKS})",
    ),
    "an open file": ("file = open(__file__)\n", "file.read()", "'file' (an open file)"),
    "a lock": (LOCK, "lock", "'lock' (a _thread.lock, which is no plain data)"),
    "in a list": (LOCK, "held", "'held' (a _thread.lock, which is no plain data)"),
    "an import in a function": (
        "def by(h):\n    import pandas as pd\n    return pd.Series(h)\n", "by(h)",
        f"'by', which names 'pandas' (module pandas{LACKS})",
    ),
    "a wrapped helper": (
        "@functools.lru_cache\ndef by(h):\n    return h\n", "by(h)",
        "'by' (a _lru_cache_wrapper around a function, expected the function itself)",
    ),
    "the door": ("", "pb.load(h)", f"'pb' (module patchboard{LACKS})"),
}  # fmt: skip


def clamp_with(helpers: str, result: str) -> str:
    return (
        HEAD + helpers + CLAMP.replace("return h + strength * (operand - h).clamp(-LIMIT, LIMIT)", f"return {result}")
    )


@pytest.fixture
def loaded(plugin):
    def load(text: str) -> Path:
        plugin("def squash(h):\n    return h.tanh()\n", "helpers_of_mine.py")
        path = plugin(text)
        activate([path])
        return path

    return load


@pytest.mark.parametrize("case", TRAVELS)
def test_travels(loaded, case):
    loaded(clamp_with(*TRAVELS[case]))
    check_pieces_travel(ops=["clamp", "patch"], fitters=["mean"], metrics=["accuracy", "kl"])


@pytest.mark.parametrize("case", STAYS)
def test_stays(loaded, case):
    helpers, result, why = STAYS[case]
    path = loaded(clamp_with(helpers, result))
    with pytest.raises(PluginError) as refused:
        check_pieces_travel(ops=["clamp"], fitters=[], metrics=[])
    assert refused.value.one_line() == (
        f"--remote: op 'clamp' of {path} cannot travel: {why}; write what it needs into the plug-in's own file,"
        " or run it here"
    )
    check_pieces_travel(ops=["patch"], fitters=[], metrics=["accuracy"])  # what is not used may stay


def test_our_own_pieces_are_held_to_it_too():
    from patchboard.metrics import METRICS
    from patchboard.ops import OPS
    from patchboard.vectors.fitters import FITTERS

    for name, op in OPS.items():
        check_travels(name, op.apply)
    for name, metric in METRICS.items():
        check_travels(name, metric.score)
    for name, fitter in FITTERS.items():
        check_travels(name, fitter.host_builder() or fitter.builder())


def test_closures_and_defaults_are_looked_at():
    def made(value, default=None):
        def apply(h, operand, strength, extra=default):
            return h * value if extra is None else h

        return apply

    check_travels("op", made(2.0, torch.ones(1)))
    check_travels("op", made(math.pi))
    for function in (made(Path("x")), made(1.0, Path("x"))):
        with pytest.raises(PluginError, match="pathlib"):
            check_travels("op", function)


def test_a_registered_function_is_written_out_by_emit(plugin):
    from patchboard.emit.source import Sources
    from patchboard.ops import OPS

    activate([plugin(HALVED, "halve.py")])
    sources = Sources()
    assert sources.add(OPS["halve"].apply, "halve", "op") == "halve"
    assert sources.definitions["halve"].startswith("def halve(h, operand, strength):") and "by(" in str(sources)
    made: dict = {}
    exec("\n".join(sources.definitions.values()), made)
    assert torch.equal(made["halve"](torch.ones(2), None, 1.0), torch.full((2,), 0.5))


HALVED = """
import patchboard as pb


def by(strength):
    return 1 - strength / SHARE


SHARE = 2


@pb.register.op("halve", operand="none", neutral=0.0)
def halve(h, operand, strength):
    return h * by(strength)
"""
