"""Where the weights of a run on several devices go: a copy on each, or one copy over all of them."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from patchboard.engine.device import Device
from patchboard.engine.load import open_model
from patchboard.engine.memory import free_bytes
from patchboard.engine.weight_bytes import weight_bytes
from patchboard.errors import SpecError
from patchboard.execution.options import Options
from patchboard.execution.plugin_sources import pieces_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.pack_cost import activation_floats
from patchboard.plan.packs import default_budget
from patchboard.spec import Study
from patchboard.spec.sections import ModelSection

_GB = 1e9
_MOST_A_CORE = 4
"""Processes of the CPU: each has libraries and arrays of its own, so too many of them take a machine down."""


@dataclass(frozen=True)
class Placement:
    """own: the device of this process. others: those of the processes that share its work, each with a copy of the
    weights. weights: bytes of a copy. note: what a reader must know."""

    own: Device
    others: tuple[str, ...] = ()
    weights: int = 0
    note: str = ""

    def names(self, first: torch.device) -> list[str]:
        """All devices. first: where this process's passes begin."""
        return [*(self.own if isinstance(self.own, tuple) else [str(first)]), *self.others]


def check_placement(study: Study, options: Options, finished: bool) -> None:
    """Raises SpecError where there are fewer GPUs than asked for, or less memory than the copies of a model take; and
    for pieces that no other process can have. finished: whether nothing is left to compute."""
    if options.devices is None or options.devices == 1:
        return
    if _on_gpus(options) and options.devices > torch.cuda.device_count():
        there = torch.cuda.device_count()
        what = f"found {options.devices}, and there {'is 1 GPU' if there == 1 else f'are {there} GPUs'}"
        raise SpecError("--devices", what, f"give at most {there}, or --device cpu")
    most = _MOST_A_CORE * (psutil.cpu_count() or 1)
    if not _on_gpus(options) and options.devices > most:
        what = f"found {options.devices} processes of the CPU, more than {_MOST_A_CORE} for each of its cores"
        raise SpecError("--devices", what, f"give at most {most}")
    if finished:
        return
    own = pieces_of(study, "session")
    if own:
        what = f"{', '.join(own)} is registered in this process alone"
        raise SpecError("--devices", what, "put it into a plug-in file (docs/plugins.md), or leave --devices out")
    for section in {point.spec.model.model_dump_json(): point.spec.model for point in study.points}.values():
        placement_of(section, open_model(section)[1], options)


def placement_of(section: ModelSection, facts: ModelFacts, options: Options) -> Placement:
    """Raises SpecError where copies in the memory of the processor exceed what is free."""
    devices = options.devices
    if devices is None:
        return Placement(options.device)
    weights = weight_bytes(section, on_cpu=not _on_gpus(options))
    if not _on_gpus(options):
        _check_memory(section, devices, weights)
        return Placement("cpu", ("cpu",) * (devices - 1), weights)
    names = tuple(f"cuda:{number}" for number in range(devices))
    # scores are float32, and their arrays the largest of small models
    needed = weights + activation_floats(facts, default_budget(facts)) * 4
    free = min(free_bytes([torch.device(name)]) for name in names)
    if needed <= free:
        return Placement(names[0], names[1:], weights)
    what = f"{section.label} needs {needed / _GB:.1f} GB and a GPU has {free / _GB:.1f} GB free"
    where = f"{', '.join(names)} and, where these are full, the CPU"
    return Placement(names, (), weights, f"{what}: it was spread over {where}, in one process")


def _on_gpus(options: Options) -> bool:
    return options.device != "cpu" and torch.cuda.is_available()


def _check_memory(section: ModelSection, copies: int, weights: int) -> None:
    free = psutil.virtual_memory().available
    if copies * weights > free:
        each = f"{copies} x {weights / _GB:.1f} GB of weights"
        what = f"{section.label} takes {each}, and {free / _GB:.1f} GB of memory are free"
        raise SpecError("--devices", what, "give fewer, or a smaller --dtype")
