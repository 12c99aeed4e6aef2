"""A finished run: its figures, findings and single queries, made of what lies in its folder when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from patchboard.api.display import as_text, html_table, html_text
from patchboard.api.run_tables import RunTables
from patchboard.engine.in_memory import LoadedModel, at_hand
from patchboard.errors import RunFolderError
from patchboard.measure.recommend import Direction, Rule
from patchboard.report.findings import findings
from patchboard.report.formats import formats_of
from patchboard.report.tables import SUMMARY_COLUMNS, print_run, summary_rows, summary_title
from patchboard.store.folder import is_finished
from patchboard.user_paths import expanded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from patchboard.api.explore import Explorer
    from patchboard.plan.model import ModelPlan


class Run(RunTables):
    """A finished run, by its folder. Shows its findings as a table; ``run`` and ``open`` give it.

    Tables are polars data frames (``.to_pandas()`` makes pandas' of them), read from the folder when first asked for
    and kept; docs/run-folder.md has their columns and units. Each raises RunFolderError where its file is damaged.

    >>> run
    effect on accuracy at the best layer
    ...
    >>> run.effects.select("task", "layer", "effect", "ci_low", "ci_high").columns
    ['task', 'layer', 'effect', 'ci_low', 'ci_high']
    """

    def __init__(self, path: Path, loaded: LoadedModel | None = None):
        """loaded: the model in memory that was run, for what needs its tokenizer."""
        super().__init__(path)
        self._loaded = loaded

    @cached_property
    def model_plans(self) -> Sequence[ModelPlan]:
        """The plan that was run, made again: cells, and prompts with their named positions. Needs the tokenizer.

        Raises RunFolderError where it gives other prompts than were run, and what planning raises.
        """
        from patchboard.api.examples import check_same_prompts
        from patchboard.execution.planned import plan_study

        with at_hand(self._loaded):
            plans = plan_study(self.study)
        check_same_prompts(plans, self.prompts, str(self.path))
        return plans

    def plot(
        self, kind: str = "effect", by: str | None = None, *, metric: str | None = None, number: int = 1
    ) -> Figure:
        """A figure of the report, returned and not shown.

        kind: ``effect`` (over layers, with controls and CD; ``by="task"`` a heat map of tasks and layers, ``by="head"``
        of layers and heads, ``by="position"`` of layers and swept positions), ``cd`` (layer by number of shots),
        ``probes`` (beside CD), ``guardedness`` (fresh probes after edits that erase),
        ``accuracy`` (against CD), ``conversion`` (answers that become another task's or a source's; also ``by="head"``
        and ``by="position"``), ``faithfulness`` (over numbers of heads kept) or ``learned`` (held-out loss of learned
        vectors over steps). metric: of ``effect``, the spec's first
        by default.
        number: which one, where many panels make several figures; a warning says so.
        Raises SpecError for a kind, a grouping or a metric that the run does not have.

        >>> figure = run.plot("effect", by="task")
        >>> [axes.get_title(loc="left") for axes in figure.axes[:3]]
        ['p', 'zeroed', 'erased']
        """
        from patchboard.api.figures import figure_of

        return figure_of(self.path, kind, by, metric, number)

    def explore(
        self,
        *others: Run | str | Path,
        intervention: str | None = None,
        metric: str | None = None,
        task: str | None = None,
        layer: int | None = None,
        queries: bool = True,
    ) -> Explorer:
        """The explorer of the report, for a notebook's cell: curves with intervals and controls, and the prompts behind
        each point, at a click.

        others: runs or their folders, whose curves are laid over this one's. intervention, metric, task, layer: what it
        shows at first. queries: False leaves the prompts and their values out, which are most of its bytes.
        Raises SpecError for what the run does not have, RunFolderError where a folder holds no finished run.

        >>> run.explore("folder-of-another-run")
        Traceback (most recent call last):
        patchboard.errors.RunFolderError: folder-of-another-run: is not the folder of a finished run; ...
        """
        from patchboard.api.explore import explorer_of

        folders = [(other if isinstance(other, Run) else open(other)).path for other in others]
        start = {"intervention": intervention, "metric": metric, "task": task, "layer": layer}
        return explorer_of(self.path, folders, start, queries)

    def examples(
        self,
        intervention: str | None = None,
        layer: int | None = None,
        task: str | None = None,
        n: int = 5,
        *,
        control: str = "",
        shots: int | None = None,
        head: int | None = None,
        metric: str | None = None,
        order: str = "effect",
        seed: int = 0,
    ) -> pl.DataFrame:
        """Single prompts with what an edit did to them: the rows behind the means.

        intervention, layer, task, shots, head: which cells; all where left out. control: a control's name in place
        of the intervention itself. metric: the spec's first by default. n: rows at most.
        order: ``effect``, the largest change of the metric first (in either direction), or ``random``, drawn by
        ``seed``. Needs the model's tokenizer, and no weights.

        Returns one row a query and cell: ``task, query, intervention, control, vector_task, layers, head, shots,
        strength``, swept fields, ``text`` of the prompt, ``edited_at`` (indices of the edited tokens) and ``edited``
        (their text), ``answer``, ``metric``, its ``clean`` and ``patched`` value and their difference ``effect``.
        Raises SpecError for what the run does not have, ModelError where the tokenizer is gone.

        >>> row = run.examples("p", layer=2, task="XOR", n=1).row(0, named=True)
        >>> row["answer"], row["effect"] == row["patched"] - row["clean"]
        ('0110', True)
        """
        from patchboard.api.examples import Wanted, examples_of

        wanted = Wanted(intervention, layer, task, control, shots, head, metric or self.summary["metric"])
        with at_hand(self._loaded):
            return examples_of(self.outcomes, lambda: self.model_plans, wanted, n, order, seed)

    def recommend(
        self,
        intervention: str | None = None,
        *,
        metric: str | None = None,
        random: float | None = 0.5,
        kl: float | None = 0.1,
        direction: Direction = "either",
    ) -> list[dict[str, Any]]:
        """The layer, head and strength of the largest effect that keeps within bounds, chosen on the even queries.

        One entry for each intervention and setting (shots, seed, …): ``choice``, and ``effect``, ``random`` and ``kl``
        of the odd queries with intervals. random: largest effect of the random counterpart, as a share of the effect;
        kl: largest KL on the texts of control ``unrelated``, in nats; None lifts a bound. What was not measured
        (``measured``) refuses nothing. ``choice`` is None where no place keeps to the bounds.
        Raises SpecError for an intervention or a metric that the run does not have.

        >>> run.recommend("p", kl=None)[0]["choice"]["layer"]
        2
        """
        from patchboard.api.recommend import recommended

        return recommended(self.study, self.outcomes, intervention, metric, Rule(random, kl, direction))

    def write_report(self, figures: str | Sequence[str] = ()) -> Path:
        """Draw the figures and the page again; returns the page, ``report.html``.

        figures: formats beside PNG, ``"svg"``, ``"pdf"`` or both. Raises SpecError for another one.
        """
        from patchboard.report.page import write_report

        return write_report(self.path, formats_of(figures, "figures"))

    def __repr__(self) -> str:
        return as_text(lambda console: print_run(self.path, console))

    def _repr_html_(self) -> str:
        numbers = range(2, len(SUMMARY_COLUMNS))
        rows = list(summary_rows(self.summary))
        table = html_table(SUMMARY_COLUMNS, rows, summary_title(self.summary), numbers) if rows else ""
        return table + html_text([*findings(self.summary), f"report: {self.path / 'report.html'}"])


def open(folder: str | Path) -> Run:
    """The run in a folder, without computing anything.

    Raises RunFolderError where no finished run is there.

    >>> pb.open(folder).summary["metric"]
    'accuracy'
    """
    path = expanded(folder)
    if not is_finished(path):
        raise RunFolderError(str(folder), "is not the folder of a finished run", "run its spec first")
    return Run(path)
