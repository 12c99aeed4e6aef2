"""report.html: one self-contained page, and the figures as files beside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from markupsafe import Markup, escape

from patchboard.report import texts
from patchboard.report.answer import answers, question
from patchboard.report.described import describe
from patchboard.report.described_edits import describe_interventions
from patchboard.report.explorer import explorer_block
from patchboard.report.findings import best_what, caveats, findings
from patchboard.report.heads import top_heads
from patchboard.report.numbers import best_place, between, cd_there, fraction, place_label, plain, signed, with_interval
from patchboard.report.run_files import Run, read_run, setting_label
from patchboard.report.task_counts import task_counts
from patchboard.store.folder import atomically
from patchboard.store.schema import FEATURES_FILE
from patchboard.undisturbed import undisturbed

if TYPE_CHECKING:  # matplotlib takes most of a second to load
    from jinja2 import Template

    from patchboard.report.drawing import Drawing

MOST_ROWS = 4000
"""Rows of a table on the page (about 1 MB of HTML); the parquet file beside it has all of them."""

_COLUMNS = (
    "intervention",
    "control",
    "layers",
    "shots",
    "metric",
    "clean",
    "patched",
    "effect",
    "ci_low",
    "ci_high",
    "n",
)


def write_report(folder: Path, formats: Sequence[str] = ()) -> Path:
    """Draw ``figures/*`` and write ``report.html`` from the run folder's own files; returns the page.

    formats: of figures beside PNG, of formats.VECTOR.

    Raises RunFolderError where the folder holds no finished run. Every file is replaced at once, so a
    reader never meets half of one.
    """
    run = read_run(folder)
    with undisturbed():
        from patchboard.report.figure_files import write_figures

        shown = write_figures(folder / "figures", drawings(run), formats)
        text = render(run, [_shown(drawing, png) for drawing, png in shown])
    page = folder / "report.html"
    atomically(page, lambda path: path.write_text(text, encoding="utf-8"))
    return page


def write_comparison(folder: Path, others: Sequence[Path]) -> Path:
    """A run's page with the curves of others laid over its own in the explorer, beside the run folder; returns it.

    Raises RunFolderError where a folder holds no finished run.
    """
    text = comparison(folder, others)
    names = "+".join(each.resolve().name for each in (folder, *others))
    page = folder.resolve().parent / f"{names}.html"
    atomically(page, lambda path: path.write_text(text, encoding="utf-8"))
    return page


def comparison(folder: Path, others: Sequence[Path]) -> str:
    """That page as text. Raises as ``write_comparison`` does."""
    run, *beside = [read_run(each) for each in (folder, *others)]
    return render(run, [], beside)


def drawings(run: Run) -> Iterator[Drawing]:
    """All figures of a run, in the order of the page: those of the first metric first."""
    # matplotlib loads in most of a second, which printing a finished run's table need not wait for
    from patchboard.report.decodability_figures import accuracy_figures, cd_figures
    from patchboard.report.effect_figures import conversion_figures, effect_figures
    from patchboard.report.faithfulness_figures import faithfulness_figures
    from patchboard.report.guarded_figures import guarded_figures
    from patchboard.report.layer_map_figures import head_figures, position_figures
    from patchboard.report.learned_figures import learned_figures
    from patchboard.report.probe_figures import probe_figures
    from patchboard.report.screen_figures import screen_figures
    from patchboard.report.task_figures import task_figures

    measured = run.curves["metric"].unique(maintain_order=True).to_list()
    if run.metric in measured:
        yield from effect_figures(run, run.metric)
        yield from position_figures(run, run.metric)
        yield from head_figures(run, run.metric)
        yield from task_figures(run)
    yield from faithfulness_figures(run)
    yield from learned_figures(run)
    yield from screen_figures(run)
    yield from cd_figures(run)
    yield from probe_figures(run)
    yield from guarded_figures(run)
    yield from accuracy_figures(run)
    yield from conversion_figures(run)
    yield from position_figures(run, "conversion")
    yield from head_figures(run, "conversion")
    for metric in measured:
        if metric not in (run.metric, "conversion"):
            yield from effect_figures(run, metric)
            yield from position_figures(run, metric)
            yield from head_figures(run, metric)


def render(run: Run, figures: list[dict[str, Any]], others: Sequence[Run] = ()) -> str:
    """The page as text. figures: as ``_shown`` makes them. others: runs whose curves the explorer shows as well."""
    manifest = _without_the_report(run.manifest)
    tasks = run.effects["task"].unique(maintain_order=True).to_list()
    explorer = explorer_block(run, others)
    return template("page.html.j2").render(
        run=run,
        manifest=manifest,
        sentences=describe(run.spec, run.manifest, tasks),
        interventions=describe_interventions(run.spec, tasks),
        counted=task_counts(run.manifest["tasks"]),
        entries=run.summary["interventions"],
        setting_label=setting_label,
        place_label=place_label,
        cd_there=cd_there,
        best_place=best_place,
        best_what=best_what(run.summary),
        headed=top_heads(run),
        texts_said=texts.said(run) if not run.texts.is_empty() else "",
        text_means=list(texts.mean_rows(run)),
        text_sections=texts.text_sections(run),
        question=question(run, tasks),
        answers=answers(run),
        findings=findings(run.summary),
        caveats=caveats(run),
        lead=figures[0] if figures else None,
        figures=[each for each in figures[1:] if explorer is None or not each["explored"]],
        explored=[each["file"] for each in figures[1:] if explorer is not None and each["explored"]],
        explorer=explorer,
        others=[other.folder.resolve().name for other in others],
        tables=[
            *([] if run.curves.is_empty() else _effects(run)),
            *_features(run),
        ],
        manifest_text=json.dumps(manifest, indent=1, ensure_ascii=False),
    )


@cache
def template(name: str) -> Template:
    """One beside this file, compiled once a process. It escapes what is put in, and names a value that it lacks."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    loader = FunctionLoader(lambda each: files("patchboard.report").joinpath(each).read_text(encoding="utf-8"))
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {
        "effect": with_interval,
        "fraction": fraction,
        "signed": signed,
        "plain": plain,
        "between": between,
    }
    return made.get_template(name)


def _without_the_report(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest as it was before its run had drawn the page: drawn again, the page is the same."""
    timed = {name: times for name, times in manifest.items() if name in ("seconds", "processor_seconds")}
    before = {name: {phase: s for phase, s in times.items() if phase != "report"} for name, times in timed.items()}
    return {**manifest, **before}


def _shown(drawing: Drawing, png: bytes) -> dict[str, Any]:
    uri = "data:image/png;base64," + base64.b64encode(png).decode()
    told = {"title": drawing.title, "caption": drawing.caption, "explored": drawing.explored}
    return {"file": f"{drawing.name}.png", "uri": uri, **told}


def _effects(run: Run) -> Iterator[dict[str, Any]]:
    yield _table(run, "Effects pooled over tasks", "curves.parquet", run.curves, [])
    yield _table(run, "Effects by task", "effects.parquet", run.effects, ["task", "vector_task"])


def _features(run: Run) -> Iterator[dict[str, Any]]:
    """The table of dictionaries' features: those of the interventions first, and of their controls behind them."""
    if run.features.is_empty():
        return
    models = ["model"] if run.features["model"].n_unique() > 1 else []
    order = run.features.sort(pl.col("vector_task").str.contains("~"), maintain_order=True)
    order = order.select(*models, pl.exclude("model", "dictionary"))
    yield _rows("Features of dictionaries, with their activations on the fit prompts", FEATURES_FILE, order)


def _table(run: Run, title: str, file: str, table: pl.DataFrame, extra: list[str]) -> dict[str, Any]:
    """A table for the page: interventions on the first metric first, so that a cut leaves what matters."""
    columns = [*extra, *run.swept, *_COLUMNS]
    if (table["head"] >= 0).any():
        columns.insert(columns.index("layers") + 1, "head")
    order = table.select(columns).sort(pl.col("metric") != run.metric, pl.col("control") != "", maintain_order=True)
    return _rows(title, file, order, as_they_are=run.swept)


def _rows(title: str, file: str, table: pl.DataFrame, as_they_are: Sequence[str] = ()) -> dict[str, Any]:
    """What the template shows of a table. as_they_are: columns of numbers that are settings, and not rounded.

    Cells are written column by column: a template's loop over them took longer than the explorer's data.
    """
    cells = []
    for column in table.head(MOST_ROWS):
        written = plain if column.dtype == pl.Float64 and column.name not in as_they_are else str
        values = column.to_list()
        texts = {value: "" if value is None else str(escape(written(value))) for value in set(values)}
        cells.append([texts[value] for value in values])
    rows = "\n".join("<tr><td>" + "<td>".join(row) + "</tr>" for row in zip(*cells, strict=True))
    shown = min(len(table), MOST_ROWS)
    return {
        "title": title, "file": file, "columns": table.columns, "rows": Markup(rows), "shown": shown, "of": len(table)
    }  # fmt: skip
