"""What is made of a run's outcomes without the model, also again where a finished run has lost it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from patchboard.errors import RunFolderError, SpecError
from patchboard.execution.options import HERE
from patchboard.measure.effects import curves, effects
from patchboard.measure.scan import scanned
from patchboard.measure.statistics import Bootstrap
from patchboard.measure.summary import summarise
from patchboard.spec import Study, load_study
from patchboard.spec.sections import Onwards, Upto
from patchboard.store.folder import RunFolder
from patchboard.store.integrity import SPEC

_PLANNED = ("plan.json", "prompts.parquet")
_MEASURED = ("outcomes.parquet", "decodability.parquet")
_RESULTS = ("effects.parquet", "curves.parquet", "summary.json")


def bootstrap_of(study: Study) -> Bootstrap:
    settings = study.points[0].spec.statistics
    return Bootstrap(settings.bootstrap, settings.level, settings.seed)


def write_results(study: Study, folder: RunFolder) -> None:
    """Write effects, curves and the summary, from the folder's outcomes and decodability."""
    bootstrap = bootstrap_of(study)
    outcomes, decodability = scanned(folder.scan_table("outcomes.parquet")), folder.read_table("decodability.parquet")
    folder.write_table("effects.parquet", effects(outcomes, bootstrap))
    folder.write_table("curves.parquet", curves(outcomes, bootstrap))
    metric = study.points[0].spec.metrics[0]
    folder.write_json("summary.json", summarise(outcomes, decodability, metric, bootstrap, _axes(study)))


def _axes(study: Study) -> dict[str, str]:
    """Interventions all of whose cells edit their layer and those behind it (``onwards``), or before it (``upto``)."""
    forms: dict[str, set[str]] = {}
    for variant in chain.from_iterable(point.variants for point in study.points):
        layers = variant.section.layers
        alone = variant.section.edits is None and isinstance(layers, Onwards | Upto)
        forms.setdefault(variant.name, set()).add(type(layers).__name__.lower() if alone else "")
    return {name: one for name, (one, *others) in forms.items() if one and not others}


def mend(study: Study, folder: RunFolder, plan_again: Callable[[], object]) -> None:
    """Make again what a finished run has lost, from the spec and from its outcomes; nothing where all is there.

    plan_again: writes the spec, the plan and the prompts.
    Raises RunFolderError for a file that it takes the model to make.
    """
    models = len({point.spec.model.model_dump_json() for point in study.points})
    vectors = [f"m{i}-vectors.safetensors" for i in range(models)] if models > 1 else ["vectors.safetensors"]
    here = folder.manifest.get("where", HERE) == HERE  # a host keeps its vectors, unless asked
    lost = folder.unsound([*_MEASURED, *(vectors if here else ())])
    if lost:
        what = "of a finished run is missing or damaged, and cannot be made without the model"
        raise RunFolderError(str(folder.path / lost[0]), what, "use --fresh to start over")
    if folder.unsound(_PLANNED) or not _spec_is_there(folder):
        plan_again()
    if folder.unsound(_RESULTS):
        write_results(study, folder)


def _spec_is_there(folder: RunFolder) -> bool:
    try:
        return load_study(folder.path / SPEC).digest == folder.digest
    except SpecError:
        return False
