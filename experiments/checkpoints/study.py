"""The study of a training: its checkpoints as the only sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from patchboard.engine.load import open_model
from patchboard.errors import SpecError
from patchboard.experiment.revisions import Checkpoint, folders, from_here, in_order, revisions
from patchboard.spec import Study, study_of
from patchboard.spec.packaged import PACKAGED
from patchboard.spec.places import Several
from patchboard.spec.sections import EMBEDDED
from patchboard.user_paths import expanded

AXES = ("model.name", "model.revision")


def swept_over(study: Study, own: Path, folders_like: str | None, revisions_like: str | None) -> Study:
    """The study with the checkpoints as its only sweep.

    own: folder of the embedded model's checkpoints, for a study of that model alone. Raises SpecError for flags that
    contradict the study, checkpoints that are not there or are not one model's, and edits of several layers.
    """
    model = study.tree["model"]
    swept = [path for path in study.axes if path in AXES]
    if folders_like and revisions_like:
        raise SpecError("--folders", "and --revisions are both given", "keep one")
    for flag, pattern in (("--folders", folders_like), ("--revisions", revisions_like)):
        if pattern and swept:
            raise SpecError(flag, f"is given, and {swept[0]} is swept", "keep one")
    if revisions_like:
        if model["name"] == EMBEDDED or model["name"] in PACKAGED or expanded(model["name"]).is_dir():
            raise SpecError("--revisions", f"'{model['name']}' has none", "name a model of the Hub: --model ORG/NAME")
        names = [each.name for each in revisions(model["name"], revisions_like)]
        study = _with(study, revision={"sweep": names})
    elif not swept:
        if model["name"] != EMBEDDED:
            what = f"'{model['name']}' is one checkpoint, expected several"
            flag = "--folders" if folders_like else "model.name"
            remedy = "leave out --model" if folders_like else "give --folders PATTERN, or --revisions PATTERN"
            raise SpecError(flag, what, remedy)
        checkpoints = folders(folders_like) if folders_like else folders(f"{from_here(own)}/*", "model.name")
        # float32 as the embedded model itself, whatever they are stored in
        dtype = model["dtype"] if folders_like or model["dtype"] != "auto" else "float32"
        study = _with(study, name={"sweep": [each.name for each in checkpoints]}, dtype=dtype)
    _check(study)
    return study


def _with(study: Study, **fields: Any) -> Study:
    return study_of({**study.tree, "model": {**study.tree["model"], **fields}})


def _check(study: Study) -> None:
    # one axis is the checkpoints', at least: the others are named, any of the spec's own before a second of the model
    for path in sorted(study.axes, key=AXES.__contains__)[:-1]:
        raise SpecError(path, "is swept, expected the checkpoints alone", "run the script for each value")
    checkpoints_of(study)
    spec = study.points[0].spec
    if spec.decodability is None:
        raise SpecError("decodability", "is null, expected a section", "give k, prompts and shots")
    for name, section in spec.interventions.items():
        if section.edits is not None or isinstance(section.layers, Several) or section.site == "head":
            what = "edits several places or heads, expected one layer a cell"
            raise SpecError(f"interventions.{name}", what, "write one edit with layers: all, or leave it out")
    depths = {point.spec.model.model_dump_json(): open_model(point.spec.model)[1].layers for point in study.points}
    if len(set(depths.values())) > 1:
        (axis,) = study.axes
        what = f"models of {' and '.join(map(str, sorted(set(depths.values()))))} layers"
        raise SpecError(axis, f"holds {what}, expected checkpoints of one", "narrow it to one training")


def checkpoints_of(study: Study) -> list[Checkpoint]:
    """By step. Raises SpecError for names that do not tell it."""
    ((axis, names),) = study.axes.items()
    return in_order([str(name) for name in names], axis)
