"""What a script says of its model: where it is loaded from, at which dtype, and where its sites are."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from patchboard.emit.recorded import Recorded
from patchboard.engine.families import ARCHITECTURES, Architecture
from patchboard.engine.sites import MODULES
from patchboard.engine.source import source_of
from patchboard.errors import ModelError
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import ModelPlan
from patchboard.spec.sections import EMBEDDED
from patchboard.spec.sites import SITES


def model_lines(plan: ModelPlan, run: Recorded | None) -> dict[str, Any]:
    section = plan.section
    known = {"name", "revision", "dtype"}
    unknown = [n for n, f in type(section).model_fields.items() if n not in known and getattr(section, n) != f.default]
    if unknown:
        raise ModelError(f"model.{unknown[0]}", "cannot be written out in a script", "emit the spec without it")
    source, options = source_of(section)
    if set(options) - {"revision"}:
        raise ModelError(
            "model.name", f"'{section.name}' cannot be written out in a script", "emit a folder or Hub name"
        )
    folder = Path(source).is_dir()
    served = run.dtype(plan) if run else ""
    dtype = section.dtype if section.dtype != "auto" else "float32"
    unsure = not served and section.dtype == "auto" and section.name != EMBEDDED
    comment = (
        "The model that comes with patchboard; any copy of this folder will do." if section.name == EMBEDDED else ""
    )
    if section.packaged is not None:
        comment = f"The packaged model {section.name}, unpacked; any copy of this folder will do."
    return {
        "model": str(Path(source).resolve()) if folder else source,
        "model_comment": comment,
        "revision": options.get("revision", "") if not folder else "",
        "revision_argument": f", revision={json.dumps(options['revision'])}" if "revision" in options else "",
        "dtype": served or dtype,
        "dtype_comment": "  # as on a CPU; on a GPU a run takes the checkpoint's own" if unsure else "",
    }


def site_lines(facts: ModelFacts, sites: Collection[str]) -> dict[str, Any]:
    """Where the blocks are, and in each of them the sites that the script reads or edits."""
    architecture = ARCHITECTURES[facts.family]
    return {
        "blocks": f"{architecture.decoder}.{architecture.blocks}",
        "attention_out": architecture.attention_out,
        "input_sites": _paths(architecture, [s for s in SITES if s in sites and _end(s) == "input"]),
        "output_sites": _paths(architecture, [s for s in SITES if s in sites and _end(s) == "output"]),
        "neurons": facts.neurons,
    }


def _paths(architecture: Architecture, sites: Sequence[str]) -> list[tuple[str, str]]:
    """(site, path of its module from the block)."""
    paths = {site: getattr(architecture, MODULES[site][0]) for site in sites if site in MODULES}
    return [(site, f".{paths[site]}" if site in paths else "") for site in sites]


def _end(site: str) -> str:
    """Whether its states are a module's input or its output."""
    return MODULES[site][1] if site in MODULES else "input" if site == "resid_pre" else "output"


def index_of(edits: Iterable[Any]) -> str:
    """The index of the edited states of a prompt: tokens ``at``, and the part of each that the edit names."""
    edits = list(edits)
    if any(edit.neurons for edit in edits):
        return "place_of(edit, at)"
    return '0, at, slice(*edit.get("columns", (None,)))' if any(edit.head >= 0 for edit in edits) else "0, at"
