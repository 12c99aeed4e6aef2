"""CD, accuracy and effect over the checkpoints of one training: a run with the model swept, and what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.engine.load import open_model
from patchboard.errors import SpecError
from patchboard.execution.options import Options
from patchboard.execution.results import bootstrap_of
from patchboard.lab.language import EXAMINED
from patchboard.lab.language.emergence import caused, half_risen, learned, together
from patchboard.lab.language.replicates import layer_by_cd
from patchboard.lab.language.revisions import Checkpoint, folders, from_here, in_order, listed_of, revisions
from patchboard.measure.decodability import ALL
from patchboard.measure.summary import without_nan
from patchboard.plan.validate import EMBEDDED
from patchboard.spec import Study, study_of
from patchboard.spec.sections import Several
from patchboard.store.folder import RunFolder, open_run
from patchboard.tasks.base import NULL
from patchboard.user_paths import expanded

AXES = ("model.name", "model.revision")
TABLES = ("learned.parquet", "caused.parquet")


def swept_over(study: Study, own: Path, folders_like: str | None, revisions_like: str | None) -> Study:
    """The study with the checkpoints as its only sweep.

    own: folder of the embedded model's checkpoints, for a study of that model alone. Raises SpecError for flags that
    contradict the study, checkpoints that are not there or are not one model's, and edits of several layers.
    """
    model = study.tree["model"]
    swept = [path for path in study.axes if path in AXES]
    if folders_like and revisions_like:
        raise SpecError("--folders", "and --revisions are both given", "keep one")
    for flag, given in (("--folders", folders_like), ("--revisions", revisions_like)):
        if given and swept:
            raise SpecError(flag, f"is given, and {swept[0]} is swept", "keep one")
    if revisions_like:
        if model["name"] == EMBEDDED or expanded(model["name"]).is_dir():
            raise SpecError("--revisions", f"'{model['name']}' has none", "name a model of the Hub: --model ORG/NAME")
        names = [each.name for each in revisions(model["name"], revisions_like)]
        study = _with(study, revision={"sweep": names})
    elif not swept:
        if model["name"] != EMBEDDED:
            what = f"'{model['name']}' is one checkpoint, expected several"
            flag = "--folders" if folders_like else "model.name"
            remedy = "leave out --model" if folders_like else "give --folders PATTERN, or --revisions PATTERN"
            raise SpecError(flag, what, remedy)
        found = folders(folders_like) if folders_like else folders(f"{from_here(own)}/*", "model.name")
        # float32 as the embedded model itself, whatever they are stored in
        dtype = model["dtype"] if folders_like or model["dtype"] != "auto" else "float32"
        study = _with(study, name={"sweep": [each.name for each in found]}, dtype=dtype)
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


def examine(study: Study, run: Path, options: Options, revisions_like: str | None) -> Path:
    """Write the experiment's folder inside the finished run's, from its tables alone; returns it."""
    with open_run(run / EXAMINED, study.digest, options.fresh) as folder:
        if folder.finished and not folder.unsound([*TABLES, "summary.json", "report.html"]):
            return folder.path
        spec = study.points[0].spec
        assert spec.decodability is not None, "refused by swept_over()"
        checkpoints, (axis,) = checkpoints_of(study), study.axes
        source = RunFolder(run, study.digest)
        shots = max(spec.decodability.shots)
        decodability = source.read_table("decodability.parquet").filter(pl.col("shots") == shots)
        last = decodability.filter(pl.col(axis) == checkpoints[-1].name)
        curves = source.read_table("curves.parquet")
        layer = layer_by_cd(last, _edited(curves) or last["layer"].unique().to_list(), shots)
        tables = {
            "learned.parquet": learned(decodability, checkpoints, axis, layer, bootstrap_of(study)),
            "caused.parquet": caused(
                source.read_table("effects.parquet"), curves, checkpoints, axis, layer, spec.metrics[0]
            ),
        }
        for name, table in tables.items():
            folder.write_table(name, table)
        unreached = listed_of(spec.model.name).unreached if revisions_like else ""
        summary = summarised(study, shots, *tables.values()) | {"unreached": unreached}
        folder.write_json("summary.json", summary)
        _report(folder.path, run, summary, tables, decodability, checkpoints, axis)
        folder.update_manifest(status="finished")
        return folder.path


def _edited(curves: pl.DataFrame) -> list[int]:
    """Layers that every intervention edits; none without interventions."""
    parts = curves.filter(pl.col("control") == "").partition_by("intervention")
    return sorted(set.intersection(*({*part["layer"]} for part in parts))) if parts else []


def summarised(study: Study, shots: int, learned: pl.DataFrame, caused: pl.DataFrame) -> dict[str, Any]:
    """What the findings are told from."""
    spec = study.points[0].spec
    overall = learned.filter(pl.col("task") == ALL)
    series = {task: _series(task, learned, caused) for task in learned["task"].unique(maintain_order=True)}
    steps = overall["step"].to_list()
    made = {
        "version": 1,
        "axis": next(iter(study.axes)),
        "checkpoints": overall["checkpoint"].to_list(),
        "steps": steps,
        "family": spec.tasks.family,
        "level": spec.statistics.level,
        "k": spec.decodability.k if spec.decodability else None,
        "shots": shots,
        "edited_shots": spec.prompts.shots,
        "layer": overall["layer"][0],
        "metric": spec.metrics[0],
        "interventions": caused["intervention"].unique(maintain_order=True).to_list(),
        "chance": overall["chance"][0],
        "learned": learned.to_dicts(),
        "caused": caused.to_dicts(),
        "over_tasks": _over_tasks(learned),
        "half_risen": {
            task: {what: half_risen(steps, rows) for what, rows in of.items()} for task, of in series.items()
        },
        "with_cd": {
            what: together([v for v, *_ in series[ALL]["cd"]], [v for v, *_ in rows])
            for what, rows in series[ALL].items() if what != "cd"
        },
    }  # fmt: skip
    return without_nan(made)


def _series(task: str, learned: pl.DataFrame, caused: pl.DataFrame) -> dict[str, list[tuple[float, float, float]]]:
    """cd, accuracy and each intervention's effect on a task: (value, low, high) a step; Null has CD alone."""
    rows = learned.filter(pl.col("task") == task)
    found = {"cd": rows.select("cd", "cd_low", "cd_high").rows()}
    if task == NULL:
        return found
    found["accuracy"] = rows.select("accuracy", "accuracy_low", "accuracy_high").rows()
    own = caused.filter(pl.col("task") == task, pl.col("control") == "")
    for (name,), part in own.group_by("intervention", maintain_order=True):
        found[str(name)] = part.select("effect", "ci_low", "ci_high").rows()
    return found


def _over_tasks(learned: pl.DataFrame) -> list[dict[str, Any]]:
    """Mean and standard deviation (ddof 1, the paper's band) over tasks, Null left out, a row a step."""
    tasks = learned.filter(~pl.col("task").is_in([ALL, NULL])).group_by("step", maintain_order=True)
    columns = ("cd", "accuracy")
    means = [pl.col(column).mean().alias(f"{column}_mean") for column in columns]
    return tasks.agg(*means, *(pl.col(column).std().alias(f"{column}_sd") for column in columns)).to_dicts()


def _report(
    folder: Path, run: Path, summary: dict[str, Any], tables: dict[str, pl.DataFrame], decodability: pl.DataFrame,
    checkpoints: Sequence[Checkpoint], axis: str,
) -> None:  # fmt: skip
    # matplotlib takes a second to load
    from patchboard.experiment.page import Page, write_page
    from patchboard.lab.language.checkpoints_figures import drawings
    from patchboard.lab.language.checkpoints_findings import findings, introduction, overview

    steps = {each.name: each.step for each in checkpoints}
    overall = decodability.filter(pl.col("task") == ALL)
    overall = overall.with_columns(step=pl.col(axis).replace_strict(steps)).sort("step", "layer")
    text = (run / "spec.yaml").read_text(encoding="utf-8")
    page = Page(
        "CD, accuracy and effect over training",
        introduction(summary),
        findings(summary),
        overview(summary),
        text,
        drawings(summary, tables["learned.parquet"], tables["caused.parquet"], overall),
    )
    write_page(folder, page)
