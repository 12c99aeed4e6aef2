"""What a remote run is refused for, before anything is sent."""

from __future__ import annotations

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
from patchboard.spec.generate import GenerateSection
from patchboard.spec.guardedness import GuardednessSection
from patchboard.spec.screen import ScreenSection
from patchboard.spec.sections import EMBEDDED, ModelSection
from patchboard.store.folder import is_finished

_REMEDY = "leave it out with --remote, or run it here"
NO_FLOORS = {
    "twin": ("a host has no untrained twin of its model", _REMEDY),
    "shuffled": ("a host sends votes, not the neighbours that shuffled labels need", _REMEDY),
    "probes": ("a host may have no scikit-learn, and sends no states to fit them on here", _REMEDY),
}


def check_host_first(study: Study, path: Path, options: Options) -> None:
    """Before anything is fetched from elsewhere: the key, then the host, where the folder has nothing of it yet.

    Raises what ``check_section``, ``refuse_floors``, ``host_of`` and ``check_host`` raise.
    """
    assert options.remote is not None
    sections = {point.spec.model.model_dump_json(): point.spec.model for point in study.points}.values()
    for section in sections:
        check_section(section, options.device)
    for point in study.points:
        refuse_floors(point.spec.decodability, NO_FLOORS)
        check_no_screen(point.spec.screen)
        check_no_texts(point.spec.generate)
        check_no_guardedness(point.spec.guardedness)
        check_none_learned(point)
        check_features(point, options.remote.vectors)
    if not options.fresh and (is_finished(path) or any((path / "parts").glob("*job-*.json"))):
        return  # what is home may be all that is needed
    host = host_of(options.remote.url, options.remote.patience)
    for section in sections:
        check_host(host, section)


def check_section(section: ModelSection, device: str) -> None:
    """Raises for what no server has or does."""
    if section.name == EMBEDDED:
        raise ModelError("--remote", "the embedded model is on no server", "name a served one: --model ORG/NAME")
    if section.name.lower().endswith(".gguf"):
        raise ModelError("--remote", "a GGUF file is on no server", "name a served model: --model ORG/NAME")
    if section.packaged is not None:
        raise ModelError("--remote", "a packaged model is on no server", "name a served model: --model ORG/NAME")
    for field, value in section.changes.items():
        what = f"found {value}, and a host serves models as they are"
        raise SpecError(f"model.{field}", what, "leave it out with --remote, or run it here")
    if device != "auto":
        raise SpecError("--device", "has no meaning with --remote: the host decides", "leave it out")


def check_no_screen(section: ScreenSection | None) -> None:
    """Raises SpecError: where a host's model is in another process than a job, what the job reads are copies, and no
    gradient leads back from them."""
    if section is not None:
        what = "cannot be on a host, which may give a job copies of states, without gradients"
        raise SpecError("screen", what, "leave it out with --remote, or run it here")


def check_no_texts(section: GenerateSection | None) -> None:
    """Raises SpecError: a cache of a model in another process than the job does not outlast a pass."""
    if section is not None:
        what = "writes token by token on a cache, which a host does not keep between passes"
        raise SpecError("generate", what, "leave it out with --remote, or run it here")


def check_no_guardedness(section: GuardednessSection | None) -> None:
    """Raises SpecError: probes are scikit-learn's, and states stay on the host."""
    if section is not None:
        what = "cannot be on a host, which may have no scikit-learn and sends no states to fit probes on here"
        raise SpecError("guardedness", what, _REMEDY)


def check_features(point: Point, vectors: bool) -> None:
    """Raises SpecError for what is chosen among all features of a dictionary, which would have to travel with each job.
    vectors: whether they are to be brought home."""
    for variant in point.variants:
        for i, edit in enumerate(variant.section.parts):
            if edit.vector is None or edit.vector.sae is None:
                continue
            where = f"interventions.{variant.name}" + (f".edits[{i}]" if variant.section.edits is not None else "")
            if edit.vector.select is not None:
                raise SpecError(f"{where}.vector.select", *_NO_DICTIONARY)
            for k, control in enumerate(point.spec.controls):
                if control.name == "random":
                    raise SpecError(f"controls[{k}]", *_NO_DICTIONARY)
            if vectors:
                raise SpecError("--vectors", "features of a dictionary stay on the host", "leave it out")


_NO_DICTIONARY = (
    "chooses among all features of a dictionary, and a host has those alone that are named",
    "run it here and name them (features: […]), or leave it out with --remote",
)


def check_none_learned(point: Point) -> None:
    """Raises SpecError for a vector that is learned through the model: for the same reason."""
    for variant in point.variants:
        for i, part in enumerate(variant.section.parts):
            if part.vector is not None and part.vector.is_learned:
                several = f".edits[{i}]" if variant.section.edits is not None else ""
                what = "cannot be learned on a host, which may give a job copies of states, without gradients"
                remedy = "learn it here, and use its file with --remote"
                raise SpecError(f"interventions.{variant.name}{several}.vector.{part.vector.kind}", what, remedy)


def check_remote_plan(plan: ModelPlan, device: str) -> None:
    """Raises for what a server cannot do."""
    check_section(plan.section, device)
    check_no_screen(plan.screen)
    check_no_texts(plan.generate)
    for guarding in plan.guardings:
        check_no_guardedness(guarding.section)
    for key, recipe in plan.recipes.items():
        where = f"interventions.{key.split('/')[0].split('@')[0].split('.')[0]}.vector"
        if recipe.dictionary is None:
            continue
        if recipe.dictionary.config.k:
            what = "is a top-k dictionary, in which all features tell which are active, and a host has those alone"
            raise SpecError(f"{where}.sae", f"{what} that are named", "run it here, or use another dictionary")
        if "features" not in dict(recipe.options) or recipe.draw >= 0:
            raise SpecError("controls" if recipe.draw >= 0 else f"{where}.select", *_NO_DICTIONARY)
    check_pieces_travel(
        ops={edit.op for group in plan.groups for copy in group.copies for edit in copy.edits},
        fitters={recipe.kind for recipe in plan.recipes.values()},
        metrics={name for group in plan.groups for name in group.metrics},
    )
    for decoding in plan.decodings:
        refuse_floors(decoding.section, NO_FLOORS)
        check_k(decoding.section.k, sum(not p.excluded for rows in decoding.prompts.values() for p in rows))
