"""What ``model.name`` names: the embedded or a packaged model, a folder, a GGUF file, a Hub name; else one line on what
it is."""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

from patchboard.engine.unpacked import folder_of
from patchboard.errors import ModelError
from patchboard.spec.packaged import PackagedModel
from patchboard.spec.sections import EMBEDDED, ModelSection
from patchboard.user_paths import expanded

GGUF = ".gguf"
ADAPTER_CONFIG = "adapter_config.json"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".json", ".index")


def source_of(section: ModelSection) -> tuple[str, dict[str, str]]:
    """What to give ``from_pretrained``: a folder (the embedded model's too) or a Hub name, and which part of it.

    The options are the revision of a Hub name and the file (``gguf_file``) of a GGUF model. A packaged model's folder
    is there once ``load`` has opened it. Raises ModelError.
    """
    if section.name == EMBEDDED:
        return str(importlib.resources.files("patchboard.embedded") / "weights"), {}
    path = expanded(section.name)
    if section.packaged is not None:
        _check_one_meaning(section.packaged, path)
        return str(folder_of(section.packaged)), {}
    if path.is_dir():
        _check_folder(path)
        return str(path), {}
    if path.is_file():
        if path.suffix.lower() == GGUF:
            return str(path.parent), {"gguf_file": path.name}
        raise _no_folder_but_a_file(path)
    if looks_like_a_path(section.name):
        raise ModelError("model.name", f"there is no folder '{section.name}'", "give an existing folder or a Hub name")
    return section.name, {"revision": section.revision}


def _check_one_meaning(row: PackagedModel, path: Path) -> None:
    """Raises ModelError where a model lies in the working directory under a packaged model's name."""
    if (path / "config.json").is_file():
        what = f"'{row.name}' is a packaged model, and the folder of that name here is a model too"
        raise ModelError("model.name", what, f"write ./{row.name} for the folder, or rename it")


def is_gguf(section: ModelSection) -> bool:
    return section.name.lower().endswith(GGUF)


def looks_like_a_path(name: str) -> bool:
    """Hub names are NAME or OWNER/NAME."""
    return name.startswith((".", "~", "/")) or name.count("/") > 1 or "\\" in name or name.lower().endswith(GGUF)


def _no_folder_but_a_file(path: Path) -> ModelError:
    what = f"'{path}' is a file, expected a folder"
    if path.suffix in _WEIGHTS and (path.parent / "config.json").is_file():
        return ModelError("model.name", what, f"give its folder: {path.parent}")
    if path.suffix in _WEIGHTS:
        remedy = "give a folder that has config.json, the weights and the tokenizer's files"
        return ModelError("model.name", f"{what} (config.json is not beside it)", remedy)
    return ModelError("model.name", what, f"give a folder in the Hub's format, or a {GGUF} file")


def _check_folder(path: Path) -> None:
    """Raises ModelError for folders that are something else than a model."""
    adapter = path / ADAPTER_CONFIG
    if (path / "config.json").is_file():
        if adapter.is_file():  # transformers would put the adapter on without a word
            what = f"the folder '{path}' holds a model and an adapter ({ADAPTER_CONFIG})"
            remedy = "move the adapter's files to a folder of their own, and name it as model.adapter to use it"
            raise ModelError("model.name", what, remedy)
        return
    if adapter.is_file():
        base = _base_of(adapter)
        of = f" of '{base}'" if base else ""
        what = f"the folder '{path}' is an adapter{of}, no model"
        raise ModelError("model.name", what, f"write model: {{name: {base or 'BASE'}, adapter: {path}}}")
    files = sorted(path.glob(f"*{GGUF}"))
    if files:
        what = f"the folder '{path}' has no config.json, but {_listed([file.name for file in files])}"
        raise ModelError("model.name", what, f"name the file: {files[0]}")
    below = sorted({found.parent for pattern in ("*", "snapshots/*") for found in path.glob(f"{pattern}/config.json")})
    if below:
        what = f"the folder '{path}' has no config.json, but {_listed([str(each.relative_to(path)) for each in below])}"
        raise ModelError("model.name", f"{what} within", f"name the model's own folder: {below[-1]}")
    has = _listed(sorted(each.name for each in path.iterdir())) if any(path.iterdir()) else "nothing"
    remedy = "give a folder in the Hub's format: config.json, weights, the tokenizer's files"
    raise ModelError("model.name", f"the folder '{path}' has no config.json, it holds {has}", remedy)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _base_of(adapter_config: Path) -> str:
    """The model that an adapter was trained on, as it names it."""
    try:
        config: Any = json.loads(adapter_config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    return base if isinstance(base, str) else ""
