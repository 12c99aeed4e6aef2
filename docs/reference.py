"""Writes docs/spec.md from the sections and registries, so that the page cannot say what the code does not.

Run ``python docs/reference.py`` after a change to either; tests/unit/test_docs.py holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from patchboard.engine.families import ARCHITECTURES
from patchboard.metrics import METRICS
from patchboard.ops import OPS
from patchboard.plan.controls import CONTROLS
from patchboard.probes import PROBES
from patchboard.spec import (
    controls,
    edits,
    fitted,
    generate,
    guardedness,
    keep,
    outcomes,
    path_patching,
    places,
    prompts,
    screen,
    sections,
    vectors,
)
from patchboard.spec.positions import POSITIONS
from patchboard.spec.sites import SITES
from patchboard.spec.values import label
from patchboard.tasks.families import FAMILIES
from patchboard.vectors.fitters import FITTERS

PAGE = Path(__file__).with_name("spec.md")
TEXTS = Path(__file__).with_name("spec.template")
"""What no section or registry can say: how things are written, with examples."""

PLACES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The file", sections.Spec),
    ("model", sections.ModelSection),
    ("tasks", sections.TasksSection),
    ("prompts", prompts.PromptsSection),
    ("prompts.template", prompts.TemplateSection),
    ("interventions.NAME", edits.InterventionSection),
    ("interventions.NAME.edits[i]", edits.EditSection),
    ("interventions.NAME.vector", vectors.VectorSection),
    ("interventions.NAME.vector.fitted_at", fitted.FittedAtSection),
    ("interventions.NAME.source", edits.SourceSection),
    ("interventions.NAME.edges", edits.Edges),
    ("interventions.NAME.keep", keep.Keep),
    ("interventions.NAME.keep.ranking, of a run", keep.RunRanking),
    ("interventions.NAME.sender", path_patching.SenderSection),
    ("interventions.NAME.receivers[i]", path_patching.ReceiverSection),
    ("interventions.NAME.layers, as a mapping", places.Together),
    ("interventions.NAME.layers, from each one on", places.Onwards),
    ("interventions.NAME.layers, up to each one", places.Upto),
    ("controls[i]", controls.ControlSection),
    ("decodability", sections.DecodabilitySection),
    ("outcomes", outcomes.OutcomesSection),
    ("screen", screen.ScreenSection),
    ("generate", generate.GenerateSection),
    ("guardedness", guardedness.GuardednessSection),
    ("statistics", sections.StatisticsSection),
)

OWN_CHAPTER = {
    "layers": "[layers](#layers)", "position": "[position](#positions)", "site": "[site](#sites)",
    "from": "[position](#positions)", "to": "[position](#positions)",
    "heads": "[heads](#heads)", "neurons": "[neurons](#neurons)", "edges": "[edges](#edges)",
    "sender": "[paths](#paths)", "receivers": "[paths](#paths)",
    "keep": "[kept heads](#kept-heads)",
}  # fmt: skip
"""Fields whose type takes a chapter to tell."""

DESCRIBED = {
    "version": "of this format",
    "name": "names the run folder; not part of the digest",
    "model": "the model", "tasks": "the task family", "prompts": "the evaluated prompts",
    "interventions": "name → intervention; names hold letters, digits, `_` and `-`",
    "controls": "run beside every intervention, see [controls](#controls)",
    "metrics": "see [metrics](#metrics); the best layer is chosen by the first one",
    "decodability": "Concept Decodability; `null` leaves it out",
    "statistics": "bootstrap intervals; one setting for the whole run, so not for sweeps",
    "template": "text of a prompt",
    "op": "see [ops](#ops); required unless `edits` is given",
    "edits": "several edits made in one cell, instead of `op`",
    "vector": "what the op writes or removes; `scale` and `zero` take none",
    "layers": "blocks, from 0", "site": "where in the block", "position": "which tokens",
    "strength": "1 is the whole edit; see each op's formula",
    "together": "these blocks are edited in one cell", "bits": "digits of a number",
    "shots": "numbers of demonstrations at which CD is measured", "level": "coverage of the intervals",
    "config": "the data set's configuration", "split": "the split to read",
}  # fmt: skip
"""For fields whose section says nothing of them."""
SEEDS = {
    "prompts": "of the split into halves, the drawn rows and Null's answers",
    "statistics": "of the bootstrap's draws",
}
NAMED = {"name": {"controls[i]": "the control"}, "op": {"interventions.NAME.edits[i]": "see [ops](#ops)"}}

SITE_TEXTS = {
    "resid_pre": "the block's input: the residual stream before it",
    "q": "each attention head's query as its projection gives it, before norms of heads and rotary positions; `heads`"
    " says which. With `layers: all` one cell a block and head",
    "k": "as `q`, of keys: a head here is one of keys and values, which several queries may share",
    "v": "as `k`, of values",
    "pattern": "the weights with which each attention head attends, of the tokens of `position`"
    " ([attention weights](#attention-weights))",
    "head": "each attention head's own output, before the heads are mixed by the output projection (the field's `z`)",
    "attn_out": "the attention module's output, before it is added to the stream",
    "mlp_pre": "the MLP's neurons before their activation: of a gated MLP the gate's",
    "mlp_act": "the MLP's neurons as the output projection takes them: of a gated MLP, gate times the other half",
    "mlp_out": "the MLP's output, before it is added to the stream",
    "resid_post": "the block's output: the residual stream after it",
}


def reference() -> str:
    """The whole page."""
    filled = TEXTS.read_text(encoding="utf-8")
    for name, text in _parts().items():
        mark = f"<!-- {name} -->"
        assert filled.count(mark) == 1, f"{TEXTS.name} must hold {mark} once"
        filled = filled.replace(mark, text)
    return filled


def _parts() -> dict[str, str]:
    return {
        "sections": "\n\n".join(f"### {place}\n\n{_section(place, section)}" for place, section in PLACES),
        "ops": _table(
            ("op", "does", "needs", "changes nothing at strength"),
            ((f"`{name}`", _said(op), op.operand, op.neutral) for name, op in OPS.items()),
        ),
        "metrics": _table(
            ("metric", "unit", "definition"), ((f"`{name}`", m.unit, _said(m)) for name, m in METRICS.items())
        ),
        "controls": _table(
            ("control", "meaning"), ((f"`{name}`", _said(control)) for name, control in CONTROLS.items())
        ),
        "probes": _table(
            ("probe", "linear", "definition"),
            ((f"`{name}`", "yes" if probe.linear else "no", _said(probe)) for name, probe in PROBES.items()),
        ),
        "positions": _table(
            ("position", "meaning"), ((f"`{name}`", entry.meaning) for name, entry in POSITIONS.items())
        ),
        "sites": _texts("site", SITE_TEXTS, SITES),
        "vectors": _table(("kind", "meaning"), ((f"`{name}`", _said(kind)) for name, kind in FITTERS.items())),
        "families": "\n\n".join(f"### {name}\n\n{_family(family)}" for name, family in FAMILIES.items()),
        "models": ", ".join(f"`{name}`" for name in ARCHITECTURES),
    }


def _family(family: Any) -> str:
    nested = [
        (name, kind)
        for name, field in family.Options.model_fields.items()
        for kind in (field.annotation, *get_args(field.annotation))
        if _is_section(kind)
    ]
    tables = [_fields("tasks", family.Options)] + [f"`{name}`:\n\n{_fields(name, kind)}" for name, kind in nested]
    return "\n\n".join([_said(family), *tables])


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _section(place: str, section: type[BaseModel]) -> str:
    own = section.__doc__ is not None and section is not sections.Spec  # Spec's is about the code
    return "\n\n".join([*([_said(section)] if own else []), _fields(place, section)])


def _fields(place: str, section: type[BaseModel]) -> str:
    """A table of the section's fields. Raises KeyError for a field that is described nowhere."""
    shapes = section.model_json_schema(mode="validation")["properties"]
    rows = []
    for name, field in section.model_fields.items():
        text = field.description or NAMED.get(name, {}).get(place)
        text = text or (SEEDS[place] if name == "seed" else DESCRIBED[name])
        default = "required" if field.is_required() else _value(field.get_default(call_default_factory=True))
        rows.append((f"`{name}`", OWN_CHAPTER.get(name) or kind_of(shapes[name]), default, text))
    return _table(("field", "type", "default", "what"), rows)


_KINDS = {
    "string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null",
    "object": "mapping",
}  # fmt: skip


def kind_of(shape: Mapping[str, Any]) -> str:
    """A JSON Schema in YAML's terms, in words."""
    if "$ref" in shape:
        return "mapping"
    if "anyOf" in shape:
        return " or ".join(dict.fromkeys(kind_of(branch) for branch in shape["anyOf"]))
    if "const" in shape or "enum" in shape:
        return ", ".join(f"`{label(value)}`" for value in shape.get("enum", [shape.get("const")]))
    if shape.get("type") == "array":
        sizes = (shape.get("minItems"), shape.get("maxItems"))
        size = {(1, None): " (at least 1)", (2, 2): " (2)"}.get(sizes, "")
        return f"list of {kind_of(shape['items'])}{size}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = ", ".join(f"{sign} {shape[key]:g}" for key, sign in signs.items() if key in shape)
    return f"{_KINDS[shape['type']]} {bounds}".strip()


def _value(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "its defaults"
    return f"`{value}`" if isinstance(value, str) and value.isidentifier() else f"`{json.dumps(value)}`"


def _said(entry: Any) -> str:
    return " ".join((entry.__doc__ or "").replace("``", "`").split())


def _texts(head: str, texts: Mapping[str, str], names: Iterable[str]) -> str:
    assert set(texts) == set(names), f"each {head} needs its text here: {set(texts) ^ set(names)}"
    return _table((head, "meaning"), ((f"`{name}`", texts[name]) for name in names))


def _table(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
