"""The first stage of a run with a screen: estimates of all screened cells, and the choice of those that are run."""

from __future__ import annotations

import gc
import zlib
from collections.abc import Iterator

import numpy as np
import polars as pl

from patchboard.engine.attribution import attributions
from patchboard.engine.local import LocalEngine, Step
from patchboard.engine.memory import is_out_of_memory
from patchboard.errors import EngineError
from patchboard.execution.model_run import ModelRun
from patchboard.measure.screen import LEFT_OUT, screen_table
from patchboard.metrics import METRICS
from patchboard.metrics.base import Graded, graded
from patchboard.plan.model import Group, ModelPlan
from patchboard.plan.pack_cost import activation_floats
from patchboard.plan.screen import reduced_plan, screened_cells
from patchboard.plan.screen_passes import pass_prompts
from patchboard.store.folder import RunFolder
from patchboard.store.schema import SCREEN_FILE


def screened_run(run: ModelRun, engine: LocalEngine) -> tuple[ModelPlan, str]:
    """The plan of the cells that are run exactly, and what begins the names of its parts: it tells this choice from
    any other. The run's own plan where nothing is screened.

    The choice is kept among the parts as soon as it is made, and followed from there by whoever resumes.
    """
    plan = run.plan
    if plan.screen is None:
        return plan, run.prefix
    name = f"parts/{run.prefix}screen.parquet"
    if not run.folder.has(name):
        step = run.progress.counter("screen", sum(len(group.prompts) for group in plan.groups))
        tables = [_of_group(run, engine, group, step) for group in plan.groups]
        run.folder.write_table(name, pl.concat(tables, how="diagonal_relaxed"))
    table = run.folder.read_table(name)
    _write_all(run.folder)
    chosen: dict[str, list[int]] = {group.id: [] for group in plan.groups}
    for group, number, what in table.select("group", "cell", "chosen").iter_rows():
        chosen[group] += [number] if what != LEFT_OUT else []
    if (table["chosen"] != LEFT_OUT).all():
        return plan, run.prefix
    return reduced_plan(plan, chosen), f"{run.prefix}x{zlib.crc32(repr(chosen).encode()):08x}-"


def _write_all(folder: RunFolder) -> None:
    """screen.parquet: of all models that are screened until now."""
    files = sorted((folder.path / "parts").glob("*screen.parquet"), key=lambda file: (len(file.name), file.name))
    tables = [folder.read_table(f"parts/{file.name}").drop("group", "cell") for file in files]
    folder.write_table(SCREEN_FILE, pl.concat(tables, how="diagonal_relaxed"))


def _of_group(run: ModelRun, engine: LocalEngine, group: Group, step: Step) -> pl.DataFrame:
    """SCREEN, with the group's id and each cell's place in ``group.uses``."""
    assert run.plan.screen is not None
    cells = screened_cells(group)
    estimates = np.full((len(cells), len(group.prompts)), np.nan)
    name = graded(group.metrics)
    at_once = pass_prompts(group, run.plan, activation_floats(run.plan.facts, engine.budget))
    for start in range(0, len(group.prompts) if cells else 0, at_once):
        prompts = range(start, min(start + at_once, len(group.prompts)))
        for part in _estimated(run, engine, group, cells, prompts, name):
            estimates[part["cell"].to_numpy(), part["query"].to_numpy()] = part["estimate"].to_numpy()
        step(len(prompts))
    table = screen_table(group, cells, estimates, name, run.plan.screen, run.bootstrap)
    return table.with_columns(group=pl.lit(group.id), cell=pl.Series(cells, dtype=pl.Int64))


def _estimated(
    run: ModelRun, engine: LocalEngine, group: Group, cells: list[int], prompts: range, metric: str
) -> Iterator[pl.DataFrame]:
    """``cell`` (place in ``cells``), ``query``, ``estimate`` of these prompts, from the folder where it has them."""
    file = f"parts/{run.prefix}screen-{group.id}-q{prompts.start}.{prompts.stop}.parquet"
    if run.folder.has(file) or _fits(run, engine, group, cells, prompts, metric, file):
        yield run.folder.read_table(file)
        return
    if len(prompts) == 1:
        what = f"one prompt of {group.task}, its sources and the gradients do not fit in the memory of {engine.device}"
        raise EngineError("--device", what, "use fewer shots, a smaller --dtype, a larger device, or leave screen out")
    middle = prompts.start + len(prompts) // 2
    for half in (range(prompts.start, middle), range(middle, prompts.stop)):
        yield from _estimated(run, engine, group, cells, half, metric)


def _fits(
    run: ModelRun, engine: LocalEngine, group: Group, cells: list[int], prompts: range, metric: str, file: str
) -> bool:
    """Estimate and write; False where memory ran out."""
    section = run.plan.screen
    assert section is not None
    steps = section.steps if section.method == "integrated_gradients" else 0
    graded_metric: type[Graded] = METRICS.get(metric, "metrics")  # type: ignore[assignment]  # it has a slope
    try:
        estimates = attributions(engine, group, cells, prompts, graded_metric, steps)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    else:
        cell, query = np.nonzero(~np.isnan(estimates))
        columns = {"cell": cell, "query": query + prompts.start, "estimate": estimates[cell, query]}
        run.folder.write_table(file, pl.DataFrame(columns))
        return True
    gc.collect()  # only now, when the error no longer holds the frames and their tensors
    engine.release()
    return False
