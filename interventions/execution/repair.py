"""What a finished run has lost, made again from its spec and its outcomes, where that takes no model."""

from __future__ import annotations

from patchboard.engine.load import open_model
from patchboard.errors import RunFolderError, SpecError
from patchboard.execution.features import has_features, write_features
from patchboard.execution.identity import HERE
from patchboard.execution.plan_files import write_plan
from patchboard.execution.plan_numbers import costs_of
from patchboard.execution.results import RESULTS, has_probes, learns, write_results
from patchboard.plan.build import build_plans
from patchboard.spec import Study, load_study
from patchboard.store.folder import RunFolder
from patchboard.store.integrity import SPEC
from patchboard.store.schema import FEATURES_FILE, OPTIONAL_TABLES

_PLANNED = ("plan.json", "prompts.parquet")
_COMPUTED = ("outcomes.parquet", "decodability.parquet")


def repair_finished(study: Study, folder: RunFolder, engine: str) -> None:
    """Nothing where all is there. engine: as ``--engine`` has it, for the plan's costs.

    Raises RunFolderError for a file that it takes the model to make.
    """
    vectors = _vectors_files(study, folder)
    lost = folder.unsound([*_COMPUTED, *_asked_files(study), *vectors])
    if lost:
        what = "of a finished run is missing or damaged, and cannot be made without the model"
        raise RunFolderError(str(folder.path / lost[0]), what, "use --fresh to start over")
    if folder.unsound(_PLANNED) or not _spec_is_there(folder):
        plans = build_plans(study, open_model)
        write_plan(study, plans, costs_of(plans, engine, _elsewhere(folder)), folder)
    if has_features(study) and vectors and folder.unsound([FEATURES_FILE]):
        write_features(folder, vectors)
    if folder.unsound(RESULTS):
        write_results(study, folder)


def _asked_files(study: Study) -> list[str]:
    """Tables that only some specs ask for, of this one."""
    spec = study.points[0].spec
    asked = {
        "screen": spec.screen is not None,
        "learned": learns(study),
        "probes": has_probes(study),
        "guardedness": spec.guardedness is not None,
        "texts": spec.generate is not None,
        "top_tokens": spec.top_tokens > 0,
        "features": False,  # made again from the vectors
    }
    return [table.file for name, table in OPTIONAL_TABLES.items() if asked[name]]


def _vectors_files(study: Study, folder: RunFolder) -> list[str]:
    if _elsewhere(folder):  # a host keeps its vectors, unless asked
        return []
    models = len({point.spec.model.model_dump_json() for point in study.points})
    return [f"m{i}-vectors.safetensors" for i in range(models)] if models > 1 else ["vectors.safetensors"]


def _elsewhere(folder: RunFolder) -> bool:
    return folder.manifest.get("where", HERE) != HERE


def _spec_is_there(folder: RunFolder) -> bool:
    try:
        return load_study(folder.path / SPEC).digest == folder.digest
    except SpecError:
        return False
