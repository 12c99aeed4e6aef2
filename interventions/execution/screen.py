"""The first stage of a run with a screen: estimates of all screened cells, and the choice of those that are run."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from patchboard.engine.attribution import attributions
from patchboard.engine.halving import REMEDY, Halving, halved_range
from patchboard.engine.local import LocalEngine
from patchboard.execution.held_parts import files_holding
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


def estimate(run: ModelRun, engine: LocalEngine, take: Callable[[str], bool]) -> None:
    """Estimate what is missing of the screened cells, as far as it is this process's to do. take: as of ``Claims``."""
    if run.plan.screen is None or run.folder.has(_choice_file(run)):
        return
    step = run.progress.counter("screen", sum(len(group.prompts) for group in run.plan.groups), shared=True)
    for group in run.plan.groups:
        passes = _Passes(run, engine, group)
        for prompts in passes:
            if take(passes.file_of(prompts)):
                passes.compute(prompts)
                step(len(prompts))


def is_estimated(run: ModelRun, engine: LocalEngine) -> bool:
    """Whether all of the screen's estimates are in the folder."""
    if run.plan.screen is None or run.folder.has(_choice_file(run)):
        return True
    of_groups = (_Passes(run, engine, group) for group in run.plan.groups)
    return all(passes.held(prompts) for passes in of_groups for prompts in passes)


def choose(run: ModelRun, engine: LocalEngine) -> None:
    """Keep the choice among the parts, once all is estimated: whoever resumes follows it."""
    if run.plan.screen is None:
        return
    if not run.folder.has(_choice_file(run)):
        tables = [_of_group(run, engine, group) for group in run.plan.groups]
        run.folder.write_table(_choice_file(run), pl.concat(tables, how="diagonal_relaxed"))
    _write_all(run.folder)


def chosen_plan(run: ModelRun) -> tuple[ModelPlan, str]:
    """The plan of the cells that are run exactly, and what begins the names of its parts: it tells this choice from
    any other. The run's own plan where nothing is screened."""
    plan = run.plan
    if plan.screen is None:
        return plan, run.prefix
    table = run.folder.read_table(_choice_file(run))
    chosen: dict[str, list[int]] = {group.id: [] for group in plan.groups}
    for group, number, what in table.select("group", "cell", "chosen").iter_rows():
        chosen[group] += [number] if what != LEFT_OUT else []
    if (table["chosen"] != LEFT_OUT).all():
        return plan, run.prefix
    return reduced_plan(plan, chosen), f"{run.prefix}x{zlib.crc32(repr(chosen).encode()):08x}-"


def _choice_file(run: ModelRun) -> str:
    return f"parts/{run.prefix}screen.parquet"


def _write_all(folder: RunFolder) -> None:
    """screen.parquet: of all models that are screened until now."""
    files = sorted((folder.path / "parts").glob("*screen.parquet"), key=lambda file: (len(file.name), file.name))
    tables = [folder.read_table(f"parts/{file.name}").drop("group", "cell") for file in files]
    folder.write_table(SCREEN_FILE, pl.concat(tables, how="diagonal_relaxed"))


def _of_group(run: ModelRun, engine: LocalEngine, group: Group) -> pl.DataFrame:
    """SCREEN, with the group's id and each cell's place in ``group.uses``."""
    assert run.plan.screen is not None
    passes = _Passes(run, engine, group)
    cells = passes.cells
    estimates = np.full((len(cells), len(group.prompts)), np.nan)
    for prompts in passes:
        for part in map(run.folder.read_table, passes.held(prompts)):
            estimates[part["cell"].to_numpy(), part["query"].to_numpy()] = part["estimate"].to_numpy()
    table = screen_table(group, cells, estimates, passes.metric, run.plan.screen, run.bootstrap)
    return table.with_columns(group=pl.lit(group.id), cell=pl.Series(cells, dtype=pl.Int64))


class _Passes:
    """A group's passes forwards and backwards, each a part: ``cell`` (place in ``cells``), ``query``, ``estimate``."""

    def __init__(self, run: ModelRun, engine: LocalEngine, group: Group):
        self.run, self.engine, self.group = run, engine, group
        self.cells, self.metric = screened_cells(group), graded(group.metrics)
        what = f"one prompt of {group.task}, its sources and the gradients do not fit"
        remedy = f"{REMEDY}, or leave screen out"
        self._halving = Halving(engine, self._write, halved_range, lambda _: what, remedy, lambda p: bool(self.held(p)))

    def __iter__(self) -> Iterator[range]:
        """The prompts of each."""
        number = len(self.group.prompts) if self.cells else 0
        at_once = pass_prompts(self.group, self.run.plan, activation_floats(self.run.plan.facts, self.engine.budget))
        for start in range(0, number, at_once):
            yield range(start, min(start + at_once, number))

    def compute(self, prompts: range) -> None:
        """Unless the folder has it."""
        if not self.held(prompts):
            self._halving.do(prompts)

    def held(self, prompts: range) -> list[str]:
        """The files that hold the pass; none where some of it is missing."""
        return files_holding(self.run.folder, prompts, self.file_of, halved_range) or []

    def file_of(self, prompts: range) -> str:
        return f"parts/{self.run.prefix}screen-{self.group.id}-q{prompts.start}.{prompts.stop}.parquet"

    def _write(self, prompts: range) -> None:
        section = self.run.plan.screen
        assert section is not None
        steps = section.steps if section.method == "integrated_gradients" else 0
        metric: type[Graded] = METRICS.get(self.metric, "metrics")  # type: ignore[assignment]  # it has a slope
        estimates = attributions(self.engine, self.group, self.cells, prompts, metric, steps)
        cell, query = np.nonzero(~np.isnan(estimates))
        columns = {"cell": cell, "query": query + prompts.start, "estimate": estimates[cell, query]}
        self.run.folder.write_table(self.file_of(prompts), pl.DataFrame(columns))
