"""A spec that runs in about a second, and the command line over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from patchboard.commands.main import main

VECTOR = {"mean": "same_task", "shots": 1, "prompts": 3}


def tiny_tree(model: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "model": {"name": str(model)},
        "tasks": {"family": "bitwise", "bits": 4, "only": ["AND", "OR", "XOR"]},
        "prompts": {"shots": 1, "queries": 3},
        "interventions": {"p": {"op": "patch", "vector": VECTOR, "layers": [1, 2]}},
        "controls": ["self", "random"],
        "decodability": {"k": 2, "prompts": 4, "shots": [0, 1]},
        "statistics": {"bootstrap": 100},
        **changes,
    }


def write(tree: dict[str, Any], path: Path) -> str:
    YAML(typ="safe").dump(tree, path)
    return str(path)


def run(tree: dict[str, Any], out: Path, *arguments: str) -> int:
    """The exit status of `patchboard run`; the spec lies beside the run folder."""
    spec = write(tree, out.parent / "spec-of-the-run.yaml")
    return main(["run", spec, "--out", str(out), "--quiet", *arguments])


def one_error(capsys: Any) -> str:
    """The one line on standard error, with nothing on standard output."""
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and "; " in lines[0], captured.err
    assert not captured.out
    return lines[0]


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())
