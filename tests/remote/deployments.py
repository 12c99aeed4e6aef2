"""What the host says about itself: its deployments and its packages, in the form that nnsight reads."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nnsight import TransformersModel
from nnsight.util import to_import_path

TASK = "text-generation"
PACKAGES = ("torch", "numpy", "transformers", "accelerate", "einops", "peft", "nnsight", "tokenizers", "safetensors",
            "huggingface_hub")  # fmt: skip
OLD = {"nnsight": "0.5.15", "transformers": "4.56.2"}
"""A host of early 2026."""
OTHERS = (
    ("meta-llama/Llama-3.1-8B", "HOT", "RUNNING"),
    ("meta-llama/Llama-3.1-405B", "COLD", None),
    ("meta-llama/Llama-3.3-70B-Instruct", "WARM", "NOT_STARTED"),
    ("openai-community/gpt2", "HOT", "RUNNING"),
    ("google/gemma-2-9b", "HOT", "DEPLOYING"),
)


def model_key(repo: str) -> str:
    """`import.path.Class:{json}` as a client makes it."""
    data = {"repo_id": repo, "revision": None, "task": TASK}
    return f"{to_import_path(TransformersModel)}:{json.dumps(data)}"


def same_model(key: str, repo: str) -> bool:
    """Whether a client's key means the served model; `main` and no revision are the same."""
    path, _, suffix = key.partition(":")
    try:
        data = json.loads(suffix)
    except ValueError:
        return False
    wanted = json.loads(model_key(repo).partition(":")[2])
    found = {**data, "revision": None if data.get("revision") == "main" else data.get("revision")}
    return path == to_import_path(TransformersModel) and found == wanted


def _entry(repo: str, level: str, state: str | None, dtype: str) -> dict[str, Any]:
    entry = {
        "deployment_level": level,
        "model_key": model_key(repo),
        "repo_id": repo,
        "revision": "main",
        "task": TASK,
        "trust_remote_code": False,
        "dtype": dtype,
    }
    return entry if state is None else {**entry, "application_state": state}


def status(repo: str, dtype: str, cold: bool = False, absent: bool = False) -> dict[str, Any]:
    """One entry a replica. The served model has two replicas, one of them still coming up."""
    found = {} if absent else {f"{model_key(repo)}:0": _entry(repo, "COLD" if cold else "HOT",
                                                              None if cold else "RUNNING", dtype)}  # fmt: skip
    if found and not cold:
        found[f"{model_key(repo)}:1"] = _entry(repo, "HOT", "DEPLOYING", dtype)
    others = {f"{model_key(name)}:0": _entry(name, level, state, "bfloat16")
              for name, level, state in OTHERS if name != repo}  # fmt: skip
    return {"deployments": {**others, **found}}


def environment(changed: dict[str, str]) -> dict[str, Any]:
    """Python's version and the packages' by import name; `changed` wins."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"python_version": sys.version, "packages": {**packages, **changed}}
