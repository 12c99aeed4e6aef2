"""What is made of a run's outcomes without the model: effects, curves and the summary."""

from __future__ import annotations

from itertools import chain

from patchboard.measure.effects import curves, effects
from patchboard.measure.guarded import guarded_summary
from patchboard.measure.learned_summary import learned_summary
from patchboard.measure.outcome_index import index_outcomes
from patchboard.measure.probe_summary import probe_summary
from patchboard.measure.screen_summary import screen_summary
from patchboard.measure.statistics import Bootstrap
from patchboard.measure.summary import summarise, without_nan
from patchboard.measure.texts import text_means
from patchboard.spec import Study
from patchboard.spec.keep import FIRST
from patchboard.spec.places import Onwards, Upto
from patchboard.store.folder import RunFolder
from patchboard.store.schema import GUARDED_FILE, LEARNED_FILE, PROBES_FILE, SCREEN_FILE, TEXTS_FILE

RESULTS = ("effects.parquet", "curves.parquet", "summary.json")
"""Made by ``write_results``."""


def bootstrap_of(study: Study) -> Bootstrap:
    settings = study.points[0].spec.statistics
    return Bootstrap(settings.bootstrap, settings.level, settings.seed)


def write_results(study: Study, folder: RunFolder) -> None:
    """Write effects, curves and the summary, from the folder's outcomes and decodability."""
    bootstrap = bootstrap_of(study)
    outcomes = index_outcomes(folder.scan_table("outcomes.parquet"))
    decodability = folder.read_table("decodability.parquet")
    folder.write_table("effects.parquet", effects(outcomes, bootstrap))
    folder.write_table("curves.parquet", curves(outcomes, bootstrap))
    spec = study.points[0].spec
    summary = summarise(outcomes, decodability, spec.metrics[0], bootstrap, _axes(study), _circuits(study))
    if spec.screen is not None:
        tables = folder.read_table(SCREEN_FILE), folder.read_table("effects.parquet")
        summary["screen"] = without_nan(screen_summary(*tables, spec.screen.method, bootstrap.level))
    if has_probes(study):
        summary["probes"] = without_nan(probe_summary(folder.read_table(PROBES_FILE), decodability))
    if spec.generate is not None:
        summary["texts"] = without_nan(text_means(folder.read_table(TEXTS_FILE), bootstrap))
    if spec.guardedness is not None:
        summary["guardedness"] = without_nan(guarded_summary(folder.read_table(GUARDED_FILE)))
    if learns(study):
        summary["learned"] = without_nan(learned_summary(folder.read_table(LEARNED_FILE)))
    folder.write_json("summary.json", summary)


def has_probes(study: Study) -> bool:
    """Whether CD has probes beside it, at some point."""
    sections = (point.spec.decodability for point in study.points)
    return any(section is not None and section.probes for section in sections)


def learns(study: Study) -> bool:
    """Whether some of its vectors are learned through the model."""
    variants = chain.from_iterable(point.variants for point in study.points)
    return any(part.vector is not None and part.vector.is_learned for own in variants for part in own.section.parts)


def _circuits(study: Study) -> list[str]:
    """Interventions that keep heads, of numbers from none to all."""
    sizes = {path: values for path, values in study.axes.items() if path.endswith(f".{FIRST}")}
    return [path.split(".")[1] for path, values in sizes.items() if 0 in values and "all" in values]


def _axes(study: Study) -> dict[str, str]:
    """Interventions all of whose cells edit their layer and those behind it (``onwards``), or before it (``upto``)."""
    forms: dict[str, set[str]] = {}
    for variant in chain.from_iterable(point.variants for point in study.points):
        layers = variant.section.layers
        alone = variant.section.edits is None and isinstance(layers, Onwards | Upto)
        forms.setdefault(variant.name, set()).add(type(layers).__name__.lower() if alone else "")
    return {name: one for name, (one, *others) in forms.items() if one and not others}
