"""What a remote run is refused for, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from patchboard.engine.ndif.preflight import check_host, host_of
from patchboard.errors import ModelError, SpecError
from patchboard.execution.options import Options
from patchboard.measure.decodability import check_k
from patchboard.plan.model import ModelPlan
from patchboard.plan.validate import refuse_floors
from patchboard.plugins.travel import check_pieces_travel
from patchboard.spec import Study
from patchboard.spec.axes import Point
from patchboard.spec.sections import EMBEDDED, ModelSection
from patchboard.store.folder import is_finished

_REMEDY = "leave it out with --remote, or run it here"
_NO_GRADIENTS = "on a host, which may give a job copies of states, without gradients"
_NO_SECTION = {
    "screen": f"cannot be {_NO_GRADIENTS}",
    "generate": "writes token by token on a cache, which a host does not keep between passes",
    "guardedness": "cannot be on a host, which may have no scikit-learn and sends no states to fit probes on here",
}
"""Section of a spec -> why there is none of it on a server."""
NO_FLOORS = {
    "twin": ("a host has no untrained twin of its model", _REMEDY),
    "shuffled": ("a host sends votes, not the neighbours that shuffled labels need", _REMEDY),
    "probes": ("a host may have no scikit-learn, and sends no states to fit them on here", _REMEDY),
}
_NOT_LEARNED = (f"cannot be learned {_NO_GRADIENTS}", "learn it here, and use its file with --remote")
_NO_DICTIONARY = (
    "chooses among all features of a dictionary, and a host has those alone that are named",
    "run it here and name them (features: […]), or leave it out with --remote",
)


def check_host_first(study: Study, path: Path, options: Options) -> None:
    """Before anything is fetched from elsewhere: the study, then the host, where the folder has nothing of it yet.

    Raises what ``check_remote_study``, ``host_of`` and ``check_host`` raise.
    """
    remote = options.remote
    assert remote is not None
    if options.device != "auto":
        raise SpecError("--device", "has no meaning with --remote: the host decides", "leave it out")
    check_remote_study(study, remote.vectors)
    if not options.fresh and (is_finished(path) or any((path / "parts").glob("*job-*.json"))):
        return  # what is home may be all that is needed
    host = host_of(remote.url, remote.patience)
    for section in _models(study):
        check_host(host, section)


def check_remote_study(study: Study, vectors: bool) -> None:
    """Raises for what the spec asks for and no server has or does. vectors: whether they are to be brought home."""
    for section in _models(study):
        check_section(section)
    for point in study.points:
        for field, what in _NO_SECTION.items():
            if getattr(point.spec, field) is not None:
                raise SpecError(field, what, _REMEDY)
        refuse_floors(point.spec.decodability, NO_FLOORS)
        _check_vectors(point, vectors)


def _models(study: Study) -> Iterable[ModelSection]:
    return {point.spec.model.model_dump_json(): point.spec.model for point in study.points}.values()


def check_section(section: ModelSection) -> None:
    """Raises for a model that no server has."""
    here = {
        "the embedded model": section.name == EMBEDDED,
        "a GGUF file": section.name.lower().endswith(".gguf"),
        "a packaged model": section.packaged is not None,
    }
    for what in (what for what, is_one in here.items() if is_one):
        raise ModelError("--remote", f"{what} is on no server", "name a served model: --model ORG/NAME")
    for field, value in section.changes.items():
        raise SpecError(f"model.{field}", f"found {value}, and a host serves models as they are", _REMEDY)


def _check_vectors(point: Point, brought_home: bool) -> None:
    """Raises SpecError for a vector that is learned through the model, and for what is chosen among all features of a
    dictionary, which would have to travel with each job."""
    for variant in point.variants:
        for where, edit in variant.located_edits:
            vector = edit.vector
            if vector is not None and vector.is_learned:
                raise SpecError(f"{where}.vector.{vector.kind}", *_NOT_LEARNED)
            if vector is None or vector.sae is None:
                continue
            if vector.select is not None:
                raise SpecError(f"{where}.vector.select", *_NO_DICTIONARY)
            for i, control in enumerate(point.spec.controls):
                if control.name == "random":
                    raise SpecError(f"controls[{i}]", *_NO_DICTIONARY)
            if brought_home:
                raise SpecError("--vectors", "features of a dictionary stay on the host", "leave it out")


def check_remote_plan(plan: ModelPlan) -> None:
    """Raises for what a server cannot do, and the plan alone tells."""
    for key, recipe in plan.recipes.items():
        if recipe.dictionary is not None and recipe.draw >= 0:  # by a user's own control
            raise SpecError("controls", *_NO_DICTIONARY)
        if recipe.dictionary is not None and recipe.dictionary.config.k:
            where = f"interventions.{key.split('/')[0].split('@')[0].split('.')[0]}.vector.sae"
            what = "is a top-k dictionary, in which all features tell which are active, and a host has those alone"
            raise SpecError(where, f"{what} that are named", "run it here, or use another dictionary")
    check_pieces_travel(
        ops={edit.op for group in plan.groups for copy in group.copies for edit in copy.edits},
        fitters={recipe.kind for recipe in plan.recipes.values()},
        metrics={name for group in plan.groups for name in group.metrics},
    )
    for decoding in plan.decodings:
        check_k(decoding.section.k, sum(not p.excluded for rows in decoding.prompts.values() for p in rows))
