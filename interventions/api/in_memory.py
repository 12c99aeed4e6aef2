"""A study on a model that the user has loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from patchboard.engine.in_memory import LoadedModel
from patchboard.errors import SpecError
from patchboard.spec import Study
from patchboard.spec.study import study_of

Kind = TypeVar("Kind", bound=Study)


@contextmanager
def study_in_memory(
    study: Kind, model: Any, tokenizer: Any, remote: object, device: str = "auto", devices: int | None = None
) -> Iterator[tuple[Kind, LoadedModel | None]]:
    """The study as it is where no model is given, else the same on that model, which can be found in the body.

    The model takes the place of ``model.name`` and ``model.revision``, as --model does. Raises SpecError for what
    cannot be asked for beside it, and ModelError for a model or tokenizer that cannot be run.
    """
    if model is None and tokenizer is None:
        yield study, None
        return
    check_alone(study, model, tokenizer, remote, device, devices or 1)
    from patchboard.engine.load_in_memory import holding

    with holding(model, tokenizer) as loaded:
        moved = study_of({**study.tree, "model": {"name": loaded.name}})
        yield type(study)(**vars(moved)), loaded


def check_alone(study: Study, model: Any, tokenizer: Any, remote: object, device: str, devices: int) -> None:
    """Raises SpecError where one of the two is missing, or something beside them has no meaning with them."""
    if tokenizer is None:
        raise SpecError("tokenizer", "is missing beside model", "give the model's tokenizer too")
    if model is None:
        raise SpecError("model", "is missing beside tokenizer", "give the model too, or leave the tokenizer out")
    if remote is not None and remote is not False:
        raise SpecError("remote", "a model in memory is on no server", "leave remote out, or name a served model")
    if device != "auto":
        raise SpecError("device", "a model in memory stays where it is", "leave device out, or move the model before")
    if devices > 1:
        what = f"found {devices}, and a model in memory is in this process alone"
        raise SpecError("devices", what, "leave devices out, or name the model's folder in the spec")
    swept = next((path for path in study.axes if path.split(".")[0] == "model"), None)
    if swept is not None:
        raise SpecError(swept, "is swept, and a model in memory is one", "leave the sweep out")
    section = study.points[0].spec.model
    asked = {**section.changes, **({"dtype": section.dtype} if section.dtype != "auto" else {})}
    for field, value in asked.items():
        raise SpecError(f"model.{field}", f"found {value}, and a model in memory is run as it is", "leave it out")
