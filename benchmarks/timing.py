"""Seconds side by side: rivals take turns, so that a busy minute of the machine meets all of them."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

PACKAGES = ("torch", "transformers", "nnsight", "pyvene", "transformer-lens")


def one_thread() -> None:
    """Ratios of one core: more threads help long sequences more than short ones, and hide the arithmetic."""
    torch.set_num_threads(1)


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call: of the clock on an accelerator, what is left queued included; of the processor on the
    CPU, where one thread computes and what other processes take is not the rival's."""
    if device.type != "cuda":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


def medians(rivals: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device) -> dict[str, float]:
    """Rival -> median seconds over ``repeats`` rounds; each round times every rival once, in order.

    The caller warms them first: each rival's answer is compared before it is timed.
    """
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(repeats):
        for name, work in rivals.items():
            taken[name].append(seconds(work, device))
    return {name: statistics.median(values) for name, values in taken.items()}


def with_peak(work: Callable[[], Result], device: torch.device) -> tuple[Result, float | None]:
    """What one call gives, and the most device memory held meanwhile, weights included, in GiB.

    None for the memory where torch does not count it.
    """
    if device.type != "cuda":
        return work(), None
    torch.cuda.reset_peak_memory_stats(device)
    result = work()
    return result, round(torch.cuda.max_memory_allocated(device) / 2**30, 3)


def process_peak_gb() -> float:
    """Most main memory that this process ever held, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3)


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers were measured on."""
    found: dict[str, Any] = {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def ratio(slow: float | None, fast: float | None) -> float | None:
    """How many times as fast, rounded; None where either was not run."""
    return None if slow is None or fast is None else round(slow / fast, 3)
