"""Run a study, here or on a server; the command line runs it through the same function."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from patchboard.api.in_memory import study_in_memory
from patchboard.api.quiet import quiet_transformers
from patchboard.api.remote import remote_of
from patchboard.api.result import Run
from patchboard.api.study import as_study
from patchboard.engine.trust import trusting
from patchboard.errors import SpecError
from patchboard.execution.identity import identity_of
from patchboard.execution.options import DEVICES, Options, check_devices, check_engine
from patchboard.execution.placement import check_placement
from patchboard.execution.planned import folder_of
from patchboard.execution.progress import Tick
from patchboard.execution.run import run_study
from patchboard.plan.validate import check_study
from patchboard.registry import suggest
from patchboard.report.formats import formats_of
from patchboard.report.progress import in_notebook
from patchboard.report.progress import progress as drawn_progress
from patchboard.spec import axes
from patchboard.store.folder import is_finished
from patchboard.track.mode import CHOICES, wanted
from patchboard.track.session import Mirror, mirrored
from patchboard.user_paths import expanded


def run(
    study: axes.Study | str | Path | Mapping[str, Any],
    *,
    model: Any = None,
    tokenizer: Any = None,
    out: str | Path | None = None,
    fresh: bool = False,
    remote: bool | str | None = None,
    device: str = "auto",
    devices: int | None = None,
    engine: str = "auto",
    job_tokens: int = 200_000,
    patience: float = 60.0,
    vectors: bool = False,
    trust_remote_code: bool = False,
    wandb: str = "off",
    figures: str | Sequence[str] = (),
    progress: bool | Tick | None = None,
) -> Run:
    """Run a study, go on with it where it was stopped, or find it finished.

    study: of ``load``, or what ``load`` takes.
    model, tokenizer: a causal language model of transformers that is in memory already, and its tokenizer. It is run as
    it is, in its dtype and where it lies, and left as it was. It takes the place of the spec's ``model.name``: the
    resolved spec has ``memory:`` and a digest of weights, configuration and tokenizer, so that changed weights are
    another run. The digest reads all weights once, about a second for each GB.
    out: the run's folder; by default ``runs/NAME-DIGEST`` in the working folder, as on the command line.
    fresh: start over. remote: ``True`` for NDIF (``NDIF_API_KEY``, ``NDIF_HOST``), or a host's URL.
    device: ``auto``, ``cpu`` or ``cuda``. devices: share the run over so many GPUs, or processes of the CPU, each with
    a copy of the model, or one copy over all these GPUs where it is too large for one. engine: ``auto``, ``wavefront``
    or ``rows``.
    job_tokens, patience, vectors: of a remote run: tokens a job, seconds that a host may be silent, and whether
    fitted vectors come home. trust_remote_code: let Python code that the model brings along run in this process.
    wandb: ``auto``, ``online``, ``offline`` or ``off``. figures: formats of figures beside PNG, ``"svg"``, ``"pdf"`` or
    both. progress: whether to show bars, by default on a terminal and in
    a notebook; or a function that is told (phase, done, of).

    Whatever is wrong raises a PatchboardError: SpecError, TaskError, ModelError, RunFolderError, EngineError, or
    RemoteRunError, after which the same call resumes. Works beside a running event loop and in any thread.

    >>> run = pb.run(study, out=folder)
    >>> run.path == folder, run.summary["metric"]
    (True, 'accuracy')
    """
    _check_choice("device", device, DEVICES)
    check_engine(engine, "engine")
    _check_choice("wandb", wandb, CHOICES)
    formats = formats_of(figures, "figures")
    shown = progress is True or (progress is None and (sys.stderr.isatty() or in_notebook()))
    tell = (lambda line: print(line, file=sys.stderr, flush=True)) if shown else (lambda line: None)
    host = remote_of(remote, job_tokens, patience, vectors, tell)
    check_devices(devices, host is not None, "devices")
    with (
        trusting(trust_remote_code),
        quiet_transformers(),
        mirrored(wanted(wandb, os.environ), quiet=not shown) as mirror,
        drawn_progress(shown) as bars,
    ):
        mirror.open_for_agent()
        tick = progress if callable(progress) else bars
        options = Options(
            expanded(out) if out is not None else None, fresh, engine, device, tick, host, formats, devices
        )
        with study_in_memory(as_study(study), model, tokenizer, remote, device, devices) as (chosen, loaded):
            return Run(run_mirrored(chosen, options, mirror), loaded.without_weights() if loaded else None)


def run_mirrored(study: axes.Study, options: Options, mirror: Mirror) -> Path:
    """Run the study and mirror its folder, which is returned. Raises PatchboardError."""
    folder = folder_of(study, options.out)
    if mirror.may_open:  # no W&B run is opened for a run that is refused
        data = check_study(study)
        check_placement(study, options, finished=not options.fresh and is_finished(folder))
        identity_of(study, data, options.remote is not None, folder, options.fresh)
    mirror.begin(study, folder, options.fresh)
    run_study(study, options)
    mirror.finish(folder)
    return folder


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SpecError(name, f"found {value!r}, expected one of {', '.join(known)}", suggest(str(value), known))
