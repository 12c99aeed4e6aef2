"""One run from study to finished folder; every step leaves a file, and is skipped where it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import polars as pl

from patchboard.engine.load import open_model
from patchboard.engine.trust import code_is_trusted, code_run
from patchboard.execution.decodings import decodability_tables
from patchboard.execution.features import has_features, write_features
from patchboard.execution.given_vectors import check_given, files_of
from patchboard.execution.guarded_tables import guarded_tables
from patchboard.execution.identity import distinct_names, identity_of, note_process
from patchboard.execution.model_run import Measure, ModelResult, ModelRun
from patchboard.execution.options import Options
from patchboard.execution.placement import check_placement
from patchboard.execution.plan_files import excluded_prompts, write_plan
from patchboard.execution.plan_numbers import costs_of
from patchboard.execution.planned import folder_of
from patchboard.execution.probe_parts import probe_tables
from patchboard.execution.progress import Progress, both
from patchboard.execution.repair import repair_finished
from patchboard.execution.results import bootstrap_of, write_results
from patchboard.execution.texts import write_texts
from patchboard.execution.top_tokens import top_tokens_into
from patchboard.measure.notes import foreseen
from patchboard.measure.outcomes import outcome_rows, outcome_schema
from patchboard.measure.scored_group import ScoreTables, gather_scores
from patchboard.measure.self_checks import Checks
from patchboard.measure.statistics import Bootstrap
from patchboard.plan.build import build_plans
from patchboard.plan.model import Group, ModelPlan
from patchboard.plan.validate import check_study
from patchboard.spec import Study
from patchboard.store.folder import RunFolder, is_finished, open_run
from patchboard.store.progress import told_in
from patchboard.store.schema import DECODABILITY, GUARDED_FILE, PROBES_FILE


def run_study(study: Study, options: Options) -> Path:
    """Run, resume or just find the study's folder; returns it. Raises PatchboardError."""
    data = check_study(study)
    path = folder_of(study, options.out)
    if options.remote is not None:
        from patchboard.execution.remote_checks import check_host_first

        check_host_first(study, path, options)
    check_placement(study, options, finished=not options.fresh and is_finished(path))
    # with --fresh before the folder is cleared: bad input must not cost the results that are there
    plans = build_plans(study, open_model) if options.fresh else None
    identity = identity_of(study, data, options.remote is not None, path, options.fresh)
    check_given(study, identity)
    with open_run(path, study.digest, options.fresh, identity) as folder:
        if folder.finished:
            repair_finished(study, folder, options.engine)
            _report(folder, *options.figures)
        else:
            with told_in(path) as told:
                progress = Progress(both(options.tick, told))
                with progress.timed("total"):
                    _run(study, folder, options, progress, plans)
                folder.update_manifest(status="finished", **progress.times)
            with progress.timed("report"):
                _report(folder, *options.figures)
            folder.update_manifest(**progress.times)
        folder.drop_parts()
    return path


def _report(folder: RunFolder, *formats: str) -> None:
    """Draw what is not there. formats: of figures, beside PNG."""
    from patchboard.report.formats import lacking
    from patchboard.report.page import write_report

    if folder.unsound(["report.html"]) or lacking(folder.path, formats):
        write_report(folder.path, formats)


def _run(
    study: Study, folder: RunFolder, options: Options, progress: Progress, plans: Sequence[ModelPlan] | None
) -> None:
    """plans: the study's, where they have been made already."""
    resumed = note_process(folder)
    with progress.timed("plan"):
        plans = plans or build_plans(study, open_model)
        costs = costs_of(plans, options.engine, options.remote is not None)
        write_plan(study, plans, costs, folder)
        excluded = excluded_prompts(plans)
    bootstrap = bootstrap_of(study)
    runs = _model_runs(plans, folder, options, progress, bootstrap)
    checks = Checks(bootstrap)
    with _measured_into(folder, runs, checks, progress) as measure:
        models = [_compute(run, partial(measure, run)) for run in runs]
        notes = [*resumed, *foreseen(plans), *(note for model in models for note in model.notes), *checks.notes()]
    with progress.timed("decodability"):
        tables = [table for run in runs for table in decodability_tables(run, bootstrap)]
        decodability = pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame(schema=DECODABILITY)
        folder.write_table("decodability.parquet", decodability)
        probed = [table for run in runs for table in probe_tables(run, bootstrap)]
        if probed:
            folder.write_table(PROBES_FILE, pl.concat(probed, how="diagonal_relaxed"))
    with progress.timed("guardedness"):
        guarded = [table for run in runs for table in guarded_tables(run, bootstrap)]
        if guarded:
            folder.write_table(GUARDED_FILE, pl.concat(guarded, how="diagonal_relaxed"))
    if has_features(study) and options.remote is None:  # a host keeps what it made of them
        write_features(folder, [run.vectors_file for run in runs])
    with progress.timed("measure"):
        write_texts(runs, folder)
        write_results(study, folder)
    folder.update_manifest(
        name=study.name,
        **({"code": code_run()} if code_is_trusted() else {}),
        models=[model.entry for model in models],
        engine={run.name: model.engine for run, model in zip(runs, models, strict=True)},
        seeds={"prompts": sorted({p.spec.prompts.seed for p in study.points}), "bootstrap": bootstrap.seed},
        noise_floor=checks.noise_floor.floor,
        flip_rate=checks.flips.rate,
        fallbacks=notes,
        excluded=excluded,
        tasks=[description for plan in plans for description in plan.tasks.values()],
        **files_of(plans),
        special_tokens=[{"model": plan.section.name, **entry} for plan in plans for entry in plan.frames],
        cost=[cost.as_dict() for cost in costs],
    )


def _model_runs(
    plans: Sequence[ModelPlan], folder: RunFolder, options: Options, progress: Progress, bootstrap: Bootstrap
) -> list[ModelRun]:
    names = distinct_names([plan.section for plan in plans])
    prefixes = [f"m{i}-" for i in range(len(plans))] if len(plans) > 1 else [""]
    return [
        ModelRun(plan, name, prefix, folder, options, progress, bootstrap)
        for plan, name, prefix in zip(plans, names, prefixes, strict=True)
    ]


@contextmanager
def _measured_into(
    folder: RunFolder, runs: Sequence[ModelRun], checks: Checks, progress: Progress
) -> Iterator[Callable[[ModelRun, Group, ScoreTables], None]]:
    """Gives what writes a group's outcomes from its scores, and takes them into the checks."""
    schema = outcome_schema(group for run in runs for group in run.plan.groups)
    with folder.growing_table("outcomes.parquet", schema) as append, top_tokens_into(folder, runs) as append_top:

        def measure(run: ModelRun, group: Group, tables: ScoreTables) -> None:
            with progress.timed("measure"):
                scored = gather_scores(group, tables)
                checks.update(scored)
                for rows in outcome_rows(scored, schema):
                    append(rows)
                append_top(run, scored)

        yield measure


def _compute(run: ModelRun, measure: Measure) -> ModelResult:
    """Here or on a host; what the other way needs is not loaded."""
    if run.options.remote is None:
        from patchboard.execution.local import compute_locally as compute
    else:
        from patchboard.execution.remote import compute_remotely as compute
    return compute(run, measure)
