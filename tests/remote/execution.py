"""Running one job on the served model, as an NDIF model actor does."""

from __future__ import annotations

import copy
import io
import linecache
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import zstandard
from deployments import TASK, same_model
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel
from nnsight.tracing.globals import BLOCKS, SOURCES
from nnsight.tracing.tracer import _saves, dec, inc
from nnsight.tracing.util import clean_traceback, filter_traceback
from sandbox import ImportGuard, Unpickler
from separate import SeparateProcess
from transformers import AutoModelForCausalLM, AutoTokenizer


class Refused(Exception):
    """A job that never reached the model: its text is a sentence, not a traceback."""


@contextmanager
def _own_sources() -> Iterator[None]:
    """nnsight remembers blocks by file name and line: kept over jobs, the next one at that place runs stale code."""
    caches: list[dict[Any, Any]] = [linecache.cache, SOURCES, BLOCKS]  # pyright: ignore[reportAssignmentType]
    before = [dict(cache) for cache in caches]
    try:
        yield
    finally:
        for cache, kept in zip(caches, before, strict=True):
            cache.clear()
            cache.update(kept)


class Host:
    """A model of a folder, served under another name."""

    def __init__(self, folder: Path, repo: str, dtype: torch.dtype, autocast: bool, separate: bool) -> None:
        self.repo, self.dtype, self._autocast = repo, dtype, autocast
        module = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval().requires_grad_(False)
        shell = torch.nn.Module.to(copy.deepcopy(module), "meta")  # before nnsight instruments it
        self.model = TransformersModel(module, tokenizer=AutoTokenizer.from_pretrained(folder), task=TASK)
        self._guard = ImportGuard()
        self._separate = SeparateProcess(self.model, shell) if separate else None

    def execute(self, request: RequestModel, blob: bytes) -> bytes:
        """The values that a job saved, as the blob that its client expects.

        Raises whatever the job raises, and Refused for another model than the served one.
        """
        if not same_model(request.model_key, self.repo):
            raise Refused(f"Could not deploy this model. {request.model_key} is not deployed on this host.")
        try:
            with _own_sources():
                self.model._remoteable_set_env(request.env)
                saved = self._run(blob, request.compress)
        finally:
            self.model.interleaver.cancel()
        buffer = io.BytesIO()
        torch.save(saved, buffer)
        return zstandard.ZstdCompressor(level=3).compress(buffer.getvalue()) if request.compress else buffer.getvalue()

    def _run(self, blob: bytes, compress: bool) -> dict[str, Any]:
        objects = self.model._remoteable_persistent_objects()
        if self._separate is not None:
            objects = self._separate.objects(objects)
        tracer = RequestModel.deserialize(blob, objects, compress, unpickler=Unpickler)
        # weights are held in the served dtype already, and a cache would hide a job's own training steps
        with torch.autocast("cpu", torch.bfloat16, enabled=self._autocast, cache_enabled=False):
            inc()
            try:
                with self._guard.job():
                    tracer.execute(tracer.info.code)
                marked = _saves()
                saved = {name: value for name, value in tracer.info.frame.f_locals.items() if id(value) in marked}
            finally:
                dec()
        return saved


def described(error: BaseException) -> str:
    """An error as the client reads it: the job's own frames, without nnsight's and ours."""
    if isinstance(error, Refused):
        return str(error)
    found = clean_traceback(getattr(error, "__intervention_tb__", None) or error.__traceback__)
    ours = {str(Path(__file__).with_name(name)) for name in ("jobs.py", "execution.py", "sandbox.py", "separate.py")}
    found = filter_traceback(found, lambda frame: frame.f_code.co_filename not in ours)
    # nothing left: it was the host that failed
    return "".join(traceback.format_exception(type(error), error, found or error.__traceback__))
