"""A job as the bytes of one request, in nnsight's protocol: the code that runs there goes along as source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from patchboard.engine.job_body import answer_job
from patchboard.engine.nnsight_model import import_nnsight
from patchboard.engine.parameters import counted
from patchboard.engine.trust import code_is_trusted
from patchboard.errors import ModelError
from patchboard.hub import downloaded
from patchboard.ops import OPS
from patchboard.registry import OWN
from patchboard.spec.sections import ModelSection
from patchboard.vectors.fitters import builders


class Shell:
    """The model's structure without weights: what nnsight needs to write a request about it.

    Raises ModelError where it cannot be made from the configuration.
    """

    def __init__(self, section: ModelSection, tokenizer: Any):
        nnsight = import_nnsight()
        nnsight.register("patchboard")  # by value, installed or not: the server has none of it
        try:
            self.model = downloaded(
                lambda: nnsight.TransformersModel(
                    section.name,
                    tokenizer=tokenizer,
                    task="text-generation",
                    revision=section.revision,
                    trust_remote_code=code_is_trusted(),
                ),  # fmt: skip
                section.name,
                section.revision,
            )
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                "model.name", f"nnsight cannot build '{section.name}' without weights ({first})", "see docs/remote.md"
            ) from error
        self.config = self.model.config

    def counted(self) -> dict[str, int]:
        return counted(self.model._module)

    def model_key(self, repo_id: str) -> str:
        """The key of a repository at the revision asked for, as nnsight's clients name it."""
        from nnsight.modeling import huggingface

        huggingface._ID_CACHE[self.model.repo_id] = repo_id  # otherwise the Hub is asked for the name's spelling
        return self.model.to_model_key()

    def environment(self) -> dict[str, Any]:
        """What the server is to apply to the model first: the attention implementation that this client has."""
        return self.model._remoteable_get_env()

    def payload(self, job: dict[str, Any], tools: dict[str, Any]) -> bytes:
        """The compressed request body of ``answer_job(model, job, tools)`` as a session on the server."""
        _send_by_value(tools)
        model, backend = self.model, _Captured()
        with model.session(backend=backend):
            answer = answer_job(model, job, tools)
            answer.save()  # pyright: ignore[reportAttributeAccessIssue]  # nnsight's, on every object
        return backend.blob


class _Captured:
    """An nnsight backend that keeps the request instead of sending it: sending has deadlines of its own."""

    blob = b""

    def __call__(self, tracer: Any) -> None:
        from nnsight.schema.request import RequestModel

        self.blob = RequestModel.serialize(tracer, compress=True)


def _send_by_value(tools: Mapping[str, Any]) -> None:
    """Have modules of users' ops and metrics sent as source: a server has none of them."""
    nnsight = import_nnsight()
    for functions in (*(tools[kind] for kind in ("ops", "scorers", "combine")), *tools["builders"]):
        for function in functions.values():
            if function.__module__ != "__main__":  # always by value
                nnsight.register(function.__module__)


def tools_of(
    ops: Iterable[str], kinds: Iterable[str], metrics: Mapping[str, Any], combined: Any, voted: Any
) -> dict[str, Any]:
    """Functions that go along: ops, builders of vectors and metrics by name, what combines an answer's tokens, the
    neighbours' vote.

    ops, kinds: names of those that are used. Our ops go along in any case, users' only so: one may hold what cannot
    travel.
    """
    own = [name for name in OPS if OPS.enrolment(name).origin == OWN]
    return {
        "ops": {name: OPS[name].apply for name in dict.fromkeys([*own, *ops])},
        "builders": tuple(builders(kinds, on_host=True)),
        "scorers": {name: metric.score for name, metric in metrics.items()},
        "combine": {name: metric.combine for name, metric in metrics.items()},
        "combined": combined,
        "voted": voted,
    }
