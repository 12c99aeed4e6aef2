"""Models that lie beside a script: its specs name them from there, wherever the user stands."""

from __future__ import annotations

import os
from pathlib import Path

from patchboard.spec import Study, study_of


def model_beside(name: str, folder: Path) -> str:
    """The model folder of that name under ``folder``, unless there is one where the user stands; else the name.

    Relative where that can be, so that a run does not tell whose machine it was on.
    """
    shipped = (folder / name).resolve()
    if Path(name).is_dir() or not shipped.is_dir():
        return name
    return os.path.relpath(shipped) if shipped.is_relative_to(Path.cwd()) else str(shipped)


def with_models_beside(study: Study, folder: Path) -> Study:
    """The study with each name of a model, swept or not, as ``model_beside`` finds it."""
    model = study.tree["model"]
    swept = isinstance(model["name"], dict)
    names = [model_beside(name, folder) for name in (model["name"]["sweep"] if swept else [model["name"]])]
    return study_of({**study.tree, "model": {**model, "name": {"sweep": names} if swept else names[0]}})


def short_name(name: str) -> str:
    """A model's name for people: of a folder given by its whole path the last part."""
    return Path(name).name if Path(name).is_absolute() else name
