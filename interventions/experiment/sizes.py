"""Finished runs of several models in one table: CD, accuracy and effect of each, beside both counts of its size."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.errors import RunFolderError
from patchboard.execution.results import bootstrap_of
from patchboard.experiment.emergence import share_interval
from patchboard.measure.decodability import ALL
from patchboard.measure.replicates import layer_by_cd
from patchboard.measure.statistics import Bootstrap
from patchboard.report.run_files import Run, at_setting, read_run
from patchboard.spec import Study, load_study
from patchboard.spec.sections import ModelSection
from patchboard.tasks.base import NULL

AXES = ("model.name", "model.revision", "prompts.shots")
"""What a run may sweep: other settings would be several answers to one question."""

SIZED = {
    "model": pl.String(),
    "revision": pl.String(),
    "family": pl.String(),  # of architectures
    "layers": pl.Int32(),
    "parameters": pl.Int64(),  # all (Chinchilla's count)
    "non_embedding": pl.Int64(),  # without input embeddings, learned positions, untied output head (Kaplan's count)
    "measure": pl.String(),  # CD, accuracy, or an intervention's name: its effect
    "control": pl.String(),  # of an effect: "", or the control's name
    "shots": pl.Int32(),
    "layer": pl.Int32(),  # of CD: the best; of an effect: chosen on the other half of the queries; null of accuracy
    "value": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "n": pl.Int32(),
}
CD, ACCURACY = "CD", "accuracy"


@dataclass(frozen=True)
class ComparableRun:
    """A finished run of several sizes, or of one, and the study that it ran."""

    run: Run
    study: Study


def read_comparable(folder: Path) -> ComparableRun:
    """Raises RunFolderError where the folder holds no finished run, or one that cannot be compared."""
    run = read_run(folder)
    if run.manifest.get("status") != "finished":
        raise RunFolderError(str(folder), "holds an unfinished run", "finish it with its own command")
    study = load_study(folder / "spec.yaml")
    for path in study.axes:
        if path not in AXES:
            raise RunFolderError(str(folder), f"sweeps {path}, expected {', '.join(AXES)} alone", "give other runs")
    if run.decodability.is_empty():
        raise RunFolderError(str(folder), "has no decodability", "run it with a section decodability")
    for entry in run.manifest["models"]:
        if "embedding_parameters" not in entry:
            what = f"does not tell how many parameters of {entry['name']} embed: an older version made it"
            raise RunFolderError(str(folder), what, "run it again with --fresh")
    return ComparableRun(run, study)


def check_alike(runs: Sequence[ComparableRun]) -> None:
    """Raises RunFolderError where two runs differ in anything but their models, or have a model in common."""
    first = runs[0]
    seen: dict[tuple[str, str], Path] = {}
    for each in runs:
        difference = _difference(_settings(first), _settings(each))
        if difference is not None:
            path, theirs, ours = difference
            what = f"has {path} {json.dumps(ours)}, {first.run.folder} has {json.dumps(theirs)}"
            raise RunFolderError(str(each.run.folder), what, "compare runs that differ in their models alone")
        for section in models_of(each.study):
            key = section.label, section.revision
            if key in seen:
                what = f"has the model {section.label} ({section.revision}), as {seen[key]} has"
                raise RunFolderError(str(each.run.folder), what, "give one of the two")
            seen[key] = each.run.folder
    if len(seen) < 2:
        raise RunFolderError(str(first.run.folder), "has one model, expected several", "give more runs")


def _settings(each: ComparableRun) -> dict[str, Any]:
    """What two runs must share. Of tasks what they turned out to be: ``bits: null`` means 4 or 5 by the model."""
    tree = {key: value for key, value in each.study.tree.items() if key not in ("name", "model")}
    tasks = {key: tree["tasks"][key] for key in ("family", "only", "include_null")}
    meant = {json.dumps(entry, sort_keys=True) for entry in each.run.manifest["tasks"]}
    return {**tree, "tasks": {**tasks, "meant": sorted(meant)}}


def _difference(one: Any, other: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """The first path at which two trees differ, with both values."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            difference = _difference(one.get(key), other.get(key), f"{path}.{key}".removeprefix("."))
            if difference is not None:
                return difference
        return None
    return None if one == other else (path, one, other)


def models_of(study: Study) -> list[ModelSection]:
    """The study's models, in the order in which the manifest lists them."""
    return list({point.spec.model.model_dump_json(): point.spec.model for point in study.points}.values())


def size_table(runs: Sequence[ComparableRun]) -> pl.DataFrame:
    """SIZED: all models of the runs, smallest first."""
    tables = [table for each in runs for table in _of_run(each)]
    return pl.concat(tables).sort("parameters", "model", "revision", maintain_order=True)


def _of_run(each: ComparableRun) -> Iterator[pl.DataFrame]:
    run, study = each.run, each.study
    bootstrap = bootstrap_of(study)
    swept = [path for path in study.axes if path in ("model.name", "model.revision")]
    for section, entry in zip(models_of(study), run.manifest["models"], strict=True):
        setting = {path: getattr(section, path.removeprefix("model.")) for path in swept}
        rows = [
            *_cd_and_accuracy(at_setting(run.decodability, setting, swept), bootstrap),
            *_effects(run.summary, setting),
        ]
        table = pl.DataFrame(rows, schema={name: SIZED[name] for name in list(SIZED)[6:]}, orient="row")
        yield table.select(
            pl.lit(section.label).alias("model"), pl.lit(section.revision).alias("revision"),
            pl.lit(entry["family"]).alias("family"), pl.lit(entry["layers"]).alias("layers"),
            pl.lit(entry["parameters"]).alias("parameters"),
            pl.lit(entry["parameters"] - entry["embedding_parameters"]).alias("non_embedding"), pl.all(),
        ).cast(SIZED)  # type: ignore[arg-type]  # fmt: skip


def _cd_and_accuracy(decodability: pl.DataFrame, bootstrap: Bootstrap) -> Iterator[tuple[Any, ...]]:
    """CD of the best layer, and accuracy on the same prompts, at the most shots."""
    shots = int(decodability["shots"].max())  # type: ignore[arg-type]  # refused where empty
    table = decodability.filter(pl.col("shots") == shots)
    layer = layer_by_cd(table, table["layer"].unique().to_list(), shots)
    there = table.filter(pl.col("layer") == layer).unique("task", maintain_order=True)
    overall = there.filter(pl.col("task") == ALL).row(0, named=True)
    yield CD, "", shots, layer, overall["cd"], overall["ci_low"], overall["ci_high"], overall["n"]
    tasks = there.filter(~pl.col("task").is_in([ALL, NULL]))
    low, high = share_interval(tasks, bootstrap)
    yield ACCURACY, "", shots, None, overall["accuracy"], low, high, int(tasks["n"].sum())


def _effects(summary: Mapping[str, Any], setting: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Each intervention's effect and its random control's, of summary.json: the layer was chosen on the other half."""
    for name, entry in summary["interventions"].items():
        for point in entry["points"]:
            at = {path: value for path, value in point["at"].items() if path in setting}
            if at != dict(setting) or point["effect"] is None:
                continue
            for control, point_of_control in {"": point, **point["controls"]}.items():
                if control in ("", "random"):
                    values = (
                        point_of_control["effect"],
                        point_of_control["ci_low"],
                        point_of_control["ci_high"],
                        point_of_control["n"],
                    )
                    yield name, control, point["shots"], point["best_layer"], *values
