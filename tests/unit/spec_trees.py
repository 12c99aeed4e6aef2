"""Random valid spec trees for the property tests, with sweeps strewn in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from patchboard.spec.positions import POSITIONS

NASTY = "abNone1 .:-{}[]#&*!|>'\"%@`,?=<~/\\\n\t\r\x07\x7f\x85\xa0é\u2028\ufeff😀"
"""Signs with a meaning in YAML, and some that it escapes."""

untimed = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
"""For every property here: how fast a busy machine is says nothing about the code."""

words = st.text(NASTY, max_size=8) | st.sampled_from(["None", "null", "true", "1e-3", "010", "2024-01-01", "<<", "="])
count = st.integers(1, 50)
blocks = st.integers(-4, 12)
layers = (
    st.sampled_from(["all", "0:8:2", "::3", "3,5", "2"])
    | blocks
    | st.lists(blocks, min_size=1, max_size=3, unique=True)
    | st.builds(lambda inner: {"together": inner}, st.sampled_from(["all", ":4", [1, 2]]))
    | st.builds(lambda key, block: {key: block}, st.sampled_from(["onwards", "upto"]), blocks)
)
position = (
    st.sampled_from(POSITIONS.names())
    | st.integers(-5, 5)
    | st.lists(st.sampled_from(POSITIONS.names()), min_size=1, max_size=3, unique=True)
)
control = st.sampled_from(["self", "random", "other_task"])
controls = st.lists(
    control
    | st.builds(lambda name: {"name": name}, control)
    | st.builds(lambda name, draws: {name: {"draws": draws}}, control, count),
    max_size=3,
)
decodability = st.none() | st.builds(lambda k: {"k": k}, count)
strength = st.integers(-3, 3) | st.floats(-1e6, 1e6)

GLOBAL: dict[str, st.SearchStrategy[Any]] = {
    "prompts.shots": st.integers(0, 9),
    "model.name": words,
    "tasks.include_null": st.booleans(),
    "tasks.bits": st.integers(1, 8) | st.booleans() | words,
    "prompts.template.separator": words,
    "prompts.bos": st.sampled_from(["auto", True, False]),
    "controls": controls,
    "metrics": st.lists(words, min_size=1, max_size=3),
    "decodability": decodability,
    "statistics.level": st.floats(0.01, 0.99),
    "prompts.queries": count,
}
EDIT: dict[str, st.SearchStrategy[Any]] = {
    "strength": strength,
    "layers": layers,
    "position": position,
    "site": st.sampled_from(["resid_pre", "resid_post", "attn_out", "mlp_out"]),
    "vector.mean": words,
    "vector.only": st.sampled_from(["correct", "all"]),
    "vector.shots": st.integers(0, 9),
}


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    """Sets a dotted path, making the mappings on the way."""
    *above, last = path.split(".")
    for part in above:
        tree = tree.setdefault(part, {})
    tree[last] = value


def same(value: Any) -> str:
    """What the spec takes for one value: 1 is 1.0, true is neither, "3" as layers is 3, a default is a default."""
    if isinstance(value, dict):
        return str({key: same(entry) for key, entry in value.items()})
    if isinstance(value, list):
        return str([same(entry) for entry in value])
    return str(value + 0.0) if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)


@st.composite
def _filled(draw: st.DrawFn, fields: dict[str, st.SearchStrategy[Any]], sweeps: bool) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    names = draw(st.lists(st.sampled_from(sorted(fields)), unique=True, max_size=5))
    if "vector.shots" in names or "vector.only" in names:
        names = list(dict.fromkeys([*names, "vector.mean"]))
    for name in names:
        # sweeps are rare, or their product would make each example slow
        if sweeps and name not in ("controls", "layers") and draw(st.integers(0, 2)) == 0:
            values = draw(st.lists(fields[name], min_size=1, max_size=3, unique_by=same))
            put(tree, name, {"sweep": values})
        else:
            put(tree, name, draw(fields[name]))
    return tree


@st.composite
def _intervention(draw: st.DrawFn, sweeps: bool) -> dict[str, Any]:
    if draw(st.integers(0, 3)) == 0:
        return {"edits": draw(st.lists(_edit(sweeps), min_size=1, max_size=2))}
    return draw(_edit(sweeps))


@st.composite
def _edit(draw: st.DrawFn, sweeps: bool) -> dict[str, Any]:
    fields = draw(_filled(EDIT, sweeps))
    op = {"op": draw(st.sampled_from(["patch", "add", "zero"]))}
    return op | fields if draw(st.booleans()) else fields | op


@st.composite
def trees(draw: st.DrawFn, sweeps: bool = True) -> dict[str, Any]:
    """A valid spec tree as YAML would give it."""
    tree = draw(_filled(GLOBAL, sweeps))
    names = draw(st.lists(st.sampled_from(["positive", "negative", "a-1", "0"]), unique=True, max_size=2))
    if names:
        tree["interventions"] = {name: draw(_intervention(sweeps)) for name in names}
    return tree


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["sweep", "op", "together", "onwards", "shots", "random", "name", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
"""Anything that YAML can hold, leaning towards the spec's own words."""


def shuffled(draw: Callable[..., Any], node: Any) -> Any:
    """The same tree with the keys of every mapping in another order."""
    if isinstance(node, dict):
        return {key: shuffled(draw, node[key]) for key in draw(st.permutations(list(node)))}
    return [shuffled(draw, entry) for entry in node] if isinstance(node, list) else node
