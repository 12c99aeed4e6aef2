"""``patchboard validate``: a YAML file of ours, checked by its own kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from patchboard.execution.validate_model import check_on_model
from patchboard.plan.validate import check_study
from patchboard.spec import Study
from patchboard.spec.agreement import SHORTHANDS
from patchboard.spec.fields import kinds_at
from patchboard.spec.kinds import FileKind, kind_of
from patchboard.spec.load import load_study, load_tree, study_of_tree
from patchboard.spec.paths import split_path
from patchboard.spec.sections import Spec

_MOST_POINTS = 100
"""Points of a sweep that are checked: a large grid says the same at each of its values."""


def validated(path: Path) -> str:
    """What the file is, as a line says it. Raises PatchboardError for the first thing that is wrong in it."""
    tree = load_tree(path, str(path))
    kind = kind_of(tree, str(path))
    if kind == "run":
        study = study_of_tree(tree, str(path), path.parent)
        _check(study)
        return f"valid, {_counted(len(study.points), 'point')}, digest {study.digest[:8]}"
    if kind == "sweep":
        return f"valid, {_sweep(path)}"
    return f"valid, settings of experiments/{kind}.py, digest {_settings(kind, path).digest[:8]}"


def _check(study: Study) -> None:
    """The study's meaning, and its layers and heads where the model's configuration is at hand."""
    check_study(study)
    check_on_model(study)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _sweep(path: Path) -> str:
    from patchboard.sweeps.file import load_sweep
    from patchboard.sweeps.search import grid_points, random_points

    sweep = load_sweep(path)
    grid = sweep.method == "grid"
    points = grid_points(sweep) if grid else random_points(sweep, 3)
    for file in itertools.islice(_specs(sweep.program, sweep.command), 1):
        for point in points[:_MOST_POINTS]:
            _check(load_study(file, _overrides(point)))
    return f"a {sweep.method} sweep" + (f" of {_counted(len(points), 'run')}" if grid else "")


def _specs(program: str, command: tuple[str, ...]) -> Iterator[Path]:
    """The run's spec that the points start from: the command's, or the script's own; none where it cannot be known."""
    own = Path(program).parent / "specs" / f"{Path(program).stem}.yaml"
    for file in (*(Path(item) for item in command if item.endswith((".yaml", ".yml"))), own):
        if file.is_file() and kind_of(load_tree(file, str(file)), str(file)) == "run":
            yield file


def _overrides(point: Mapping[str, Any]) -> dict[str, Any]:
    """The point's parameters by path, without flags that are none."""
    named = {SHORTHANDS.get(name, name): value for name, value in point.items()}
    return {path: value for path, value in named.items() if kinds_at(Spec, split_path(path)[:1])}


def _settings(kind: FileKind, path: Path) -> Any:
    """The experiment's settings, with the study in them checked."""
    from patchboard.experiment.settings import load_settings, told_of_study

    if kind == "hijack":
        from patchboard.experiments.hijack.settings import HijackSettings

        return load_settings(HijackSettings, path)
    if kind == "synthetic":
        from patchboard.experiments.synthetic.settings import SyntheticSettings, study_in

        settings = load_settings(SyntheticSettings, path)
        study_in(settings)
        return settings
    from patchboard.experiments.finetune.settings import FinetuneSettings, read_study, study_of_settings

    settings = load_settings(FinetuneSettings, path)
    study = study_of_settings(read_study(settings))
    with told_of_study():
        _check(study)
    return settings
