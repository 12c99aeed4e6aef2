"""Head sweeps in the report: a planted head is found in map, table and sentences; lines are for layers alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from patchboard.report.described import describe
from patchboard.report.effect_figures import conversion_figures, effect_figures
from patchboard.report.findings import caveats, findings
from patchboard.report.heads import TOP, of_heads, top_heads, without_heads
from patchboard.report.layer_map_figures import head_figures
from patchboard.report.numbers import place_label
from patchboard.report.page import write_report
from patchboard.report.run_files import Run, read_run
from patchboard.report.style import styled
from patchboard.report.tables import print_run, summary_table
from patchboard.report.task_figures import task_figures
from patchboard.store.schema import OUTCOMES
from tests.unit import synthetic_run

LAYERS, HEADS = 5, 4
PLANTED = {(3, 1): -0.6, (1, 2): 0.25}
"""(layer, head) -> change of the probability of a right answer."""
EVERYWHERE = (2, 3)
"""A head without which nothing works, whatever is put in its place."""


def rows(name: str, control: str, layer: int, head: int, change: float, layers: str = "") -> Iterator[pl.DataFrame]:
    """40 queries of two tasks that are right half of the time without the edit."""
    rng = np.random.default_rng([layer, head + 1, len(control)])
    for task in ("AND", "OR"):
        clean = np.arange(40) % 4 < 2
        right = rng.random(40) < abs(change)
        patched = np.where(right, change > 0, clean) if control != "self" else clean
        yield pl.DataFrame({"query": range(40), "clean": clean, "patched": patched}).with_columns(
            **{key: pl.lit(value) for key, value in {
                "task": task, "intervention": name, "control": control, "vector_task": "Null", "op": "patch",
                "site": "head" if head >= 0 else "resid_post", "layer": layer, "layers": layers or str(layer),
                "head": head, "position": "last", "strength": 1.0, "shots": 4, "seed": 0, "metric": "accuracy",
            }.items()}
        )  # fmt: skip


def outcomes() -> pl.DataFrame:
    """``each`` patches every head, ``joint`` two heads in all layers, ``one`` a head a layer, ``stream`` none."""
    made: list[pl.DataFrame] = []
    for layer in range(LAYERS):
        for head in range(HEADS):
            everywhere = -0.5 if (layer, head) == EVERYWHERE else 0.0
            made += rows("each", "", layer, head, PLANTED.get((layer, head), everywhere))
            made += rows("each", "random", layer, head, everywhere)
            made += rows("each", "self", layer, head, 0.0)
        made += rows("one", "", layer, 2, -0.1)
        made += rows("stream", "", layer, -1, -0.8 if layer >= 3 else 0.0)
    for head in (0, 1):
        made += rows("joint", "", 0, head, -0.9 * head, layers="0,1,2,3,4")
    return pl.concat(made).select(pl.col(name).cast(kind) for name, kind in OUTCOMES.items())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    made = synthetic_run.write_run_folder(tmp_path_factory.mktemp("heads") / "run", outcomes(), None)
    write_report(made)
    return read_run(made)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Run:
    table = synthetic_run.outcomes(queries=12).filter(shots=4, metric="accuracy")
    return read_run(synthetic_run.write_run_folder(tmp_path_factory.mktemp("plain") / "run", table, None))


def titles(drawing) -> list[str]:
    return [axes.get_title(loc="left") for axes in drawing.figure.axes if axes.get_title(loc="left")]


def outlines(axes) -> set[tuple[int, int]]:
    """(layer, head) of the outlined squares."""
    boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return {(round(box.get_x() + 0.5), round(box.get_y() + 0.5)) for box in boxes}


def squares(axes) -> np.ndarray:
    """[head, layer] the values that are drawn."""
    return np.ma.filled(np.ma.asarray(axes.images[0].get_array()), np.nan)


def dots(axes) -> int:
    return sum(len(collection.get_offsets()) for collection in axes.collections)


def test_the_map_is_the_table_and_shows_what_was_planted(run):
    with styled():
        each, joint = head_figures(run, "accuracy")
    assert (each.name, joint.name) == ("heads-accuracy-each", "heads-accuracy-joint")
    assert titles(each) == ["each", "random"]  # self changes nothing and is left out
    own, random, bar = each.figure.axes
    table = run.own.filter(intervention="each").pivot("layer", index="head", values="effect").sort("head").drop("head")
    drawn = squares(own)
    assert drawn.shape == (HEADS, LAYERS) and np.array_equal(drawn, table.to_numpy())
    order = np.argsort(-np.abs(drawn), axis=None)
    head, layer = np.unravel_index(order[0], drawn.shape)
    assert (layer, head) == max(PLANTED, key=lambda place: abs(PLANTED[place]))
    assert outlines(own) == outlines(random) == {*PLANTED, EVERYWHERE}
    assert (dots(own), dots(random)) == (3, 1)  # only one of them is the concept's own
    low, high = own.images[0].get_clim()
    assert random.images[0].get_clim() == (low, high) and low == -high == -np.abs(drawn).max()
    assert bar.get_ylabel() == "effect on accuracy (fraction)"


def test_heads_edited_in_several_layers_are_one_column(run):
    with styled():
        _, joint = head_figures(run, "accuracy")
    assert squares(joint.figure.axes[0]).shape == (2, 1)
    assert [label.get_text() for label in joint.figure.axes[0].get_xticklabels()] == ["0-4"]
    assert "in several layers together" in joint.caption


def test_lines_and_tasks_are_of_the_others(run):
    with styled():
        (lines,) = effect_figures(run, "accuracy")
        (tasks,) = task_figures(run)
        conversion = list(conversion_figures(run))
    assert titles(lines) == titles(tasks) == ["one", "stream"] and conversion == []
    assert all(len(np.asarray(line.get_xdata())) in (2, LAYERS) for axes in lines.figure.axes for line in axes.lines)


def test_a_single_panel_has_the_whole_width(run):
    alone = replace(run, curves=run.curves.filter(intervention="each", control=""))
    with styled():
        (found,) = head_figures(alone, "accuracy")
        FigureCanvasAgg(found.figure).draw()  # constrained layout places the axes as it draws
    panel, _ = found.figure.axes
    assert panel.get_position().width > 0.7, "beside it stand the colours alone"


def test_conversion_of_heads_has_its_own_map(run):
    of_other = {"random": "other_task"}
    swapped = run.curves.with_columns(
        pl.col("control").replace(of_other), pl.lit("conversion").alias("metric"),
        pl.when(pl.col("control") == "random").then("n").otherwise(0).alias("n"),
    )  # fmt: skip
    with styled():
        each = list(head_figures(replace(run, curves=swapped), "conversion"))
    assert [titles(drawing) for drawing in each] == [["other_task"]]  # joint has none: no figure
    assert each[0].figure.axes[-1].get_ylabel() == "conversion (fraction)"


def test_the_table_has_the_largest_with_their_controls(run):
    each, joint = top_heads(run)
    own = {(row["layer"], row["head"]): row["effect"] for row in run.own.filter(intervention="each").to_dicts()}
    largest = sorted((place for place in own if own[place]), key=lambda place: -abs(own[place]))[:TOP]
    assert [(row["layer"], row["head"]) for row in each["rows"]] == largest
    assert set(largest) == {*PLANTED, EVERYWHERE} and each["of"] == LAYERS * HEADS  # effects of 0 are left out
    at = {(row["layer"], row["head"]): row["controls"] for row in each["rows"]}
    assert at[EVERYWHERE]["random"]["effect"] < -0.1 and at[3, 1]["random"]["effect"] == 0
    assert list(at[3, 1]) == ["random", "self"]
    assert [place_label(row["layers"], row["head"]) for row in joint["rows"]] == ["0-4.h1"]


def test_page_and_terminal_name_the_head(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    best = run.summary["interventions"]["each"]
    assert (best["best_layer"], best["head"]) == (3, 1)
    assert run.summary["interventions"]["stream"]["head"] is None
    sentences = "\n".join(findings(run.summary))
    assert "each: the largest effect is at head 1 of layer 3, where accuracy" in sentences
    assert "no part in choosing the head" in sentences and "no part in choosing the layer" in sentences
    assert "joint: the largest effect is at head 1 of layers 0-4 together" in sentences
    assert "stream: the largest effect is at layer " in sentences
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "<h2>Heads of the largest effects on accuracy</h2>" in page and "<td>3.h1<td>" in page
    assert "3 of 20 heads" in page and "<th>head<th>shots" in page
    print_run(run.folder)
    told = capsys.readouterr().out
    assert "best layer or head" in told and " 3.h1 " in told and " 0-4.h1 " in told
    before_heads = _without_head(run.summary)  # a folder's summary of an earlier version
    assert summary_table(before_heads).row_count == 4 and len(findings(before_heads)) == 4


def _without_head(node):
    if isinstance(node, dict):
        return {key: _without_head(value) for key, value in node.items() if key != "head"}
    return [_without_head(value) for value in node] if isinstance(node, list) else node


def test_a_run_without_heads_has_none_of_it(plain):
    assert top_heads(plain) == [] and without_heads(plain.curves, plain.swept).equals(plain.curves)
    page = write_report(plain.folder).read_text(encoding="utf-8")
    assert not list(plain.folder.glob("figures/heads-*"))
    assert "<h2>Heads" not in page and "<th>head<th>" not in page and "at the best layer</h2>" in page
    assert "head" not in " ".join(findings(plain.summary))


places = st.tuples(st.sampled_from("ab"), st.sampled_from([None, 0, 4]), st.integers(0, 2), st.integers(-1, 2))


@given(st.lists(places, unique=True))
def test_rows_are_parted_as_a_loop_would(cells):
    schema = {"intervention": pl.String, "shots": pl.Int64, "layers": pl.String, "head": pl.Int64}
    table = pl.DataFrame([(a, s, str(layer), h) for a, s, layer, h in cells], schema=schema, orient="row")
    several = {
        (a, s) for a, s, layer, _ in cells
        if len({other[3] for other in cells if other[:3] == (a, s, layer)}) > 1
    }  # fmt: skip
    expected = [row for row in table.iter_rows() if row[:2] in several]
    assert of_heads(table, ["shots"]).rows() == expected
    assert without_heads(table, ["shots"]).rows() == [row for row in table.rows() if row not in expected]


def grown(run: Run, layers: int, heads: int, settings: int) -> Run:
    """``run`` with curves of one intervention on many heads: noise, and one large effect at layer 1, head 0."""
    rng = np.random.default_rng(0)
    first = run.own.row(0, named=True)
    made = [
        {**first, "intervention": "wide", "metric": "logit_difference", "prompts.seed": seed, "control": control,
         "layer": layer, "layers": str(layer), "head": head,
         "effect": effect, "ci_low": effect - 0.02, "ci_high": effect + 0.02}
        for seed in range(settings) for control in ("", "random") for layer in range(layers) for head in range(heads)
        for effect in (0.5 if (control, layer, head) == ("", 1, 0) else rng.normal(0, 0.01),)
    ]  # fmt: skip
    schema = {**run.curves.schema, "prompts.seed": pl.Int64()}
    return replace(run, curves=pl.DataFrame(made, schema=schema))


@pytest.mark.parametrize(("layers", "heads"), [(80, 64), (28, 12), (6, 4), (2, 2)])
def test_any_size_can_be_read(run, layers, heads):
    with styled():
        (drawing,) = head_figures(grown(run, layers, heads, 1), "logit_difference")
        canvas = FigureCanvasAgg(drawing.figure)
        canvas.draw()
    own, random = drawing.figure.axes[:2]
    renderer = canvas.get_renderer()
    box = own.get_window_extent(renderer)
    assert box.width / layers > 5 and box.height / heads > 5  # dots an inch: a square is seen
    for axis in (own.xaxis, own.yaxis, random.xaxis):
        labels = [label.get_window_extent(renderer) for label in axis.get_ticklabels() if label.get_text()]
        assert not any(a.overlaps(b) for i, a in enumerate(labels) for b in labels[:i])
    numbers = [text.get_text() for text in own.texts]
    assert (1, 0) in outlines(own) and len(outlines(own)) <= 5
    assert ("+0.50" in numbers) if layers <= 6 else numbers == []
    bar = drawing.figure.axes[-1]
    assert drawing.figure.bbox.containsy(bar.yaxis.label.get_window_extent(renderer).y0)
    assert drawing.figure.bbox.containsy(bar.yaxis.label.get_window_extent(renderer).y1)


def test_a_control_stays_with_what_it_controls(run):
    with styled():
        several = list(head_figures(grown(run, 80, 64, 3), "logit_difference"))
    assert [drawing.name.rsplit("-", 1)[1] for drawing in several] == ["1", "2", "3"]
    assert [titles(drawing) for drawing in several] == [
        [f"wide, seed = {seed}", f"random, seed = {seed}"] for seed in range(3)
    ]
    assert len({drawing.figure.axes[0].images[0].get_clim() for drawing in several}) == 1


def test_panels_of_fewer_layers_do_not_cut_the_others(run):
    """All panels share their axis: the last one drawn must not set its ends for all."""
    last = run.own.filter(intervention="one", layer=2).with_columns(pl.lit("zlast").alias("intervention"))
    effects = run.effects.filter(intervention="one", layer=2).with_columns(pl.lit("zlast").alias("intervention"))
    wider = replace(run, curves=pl.concat([run.curves, last]), effects=pl.concat([run.effects, effects]))
    with styled():
        for drawing in (*effect_figures(wider, "accuracy"), *task_figures(wider)):
            assert titles(drawing) == ["one", "stream", "zlast"]
            low, high = drawing.figure.axes[0].get_xlim()
            assert low < 0 and high > LAYERS - 1


def test_decodable_is_not_causal_is_said_of_layers_where_every_head_is_idle(tmp_path):
    cd = synthetic_run.decodability(points=12).filter(pl.col("layer") < LAYERS)
    high = cd.with_columns(cd=pl.lit(0.9), ci_low=pl.lit(0.85), ci_high=pl.lit(0.95))
    made = read_run(synthetic_run.write_run_folder(tmp_path / "run", outcomes(), high))
    assert made.summary["interventions"]["each"]["decodable_but_not_causal"] == [0, 4]
    sentence = next(line for line in findings(made.summary) if line.startswith("each:"))
    assert "at layers 0, 4 CD is high, yet the interval of every edited head's effect covers zero" in sentence
    assert f"Over {LAYERS * HEADS} heads" in sentence or "rank correlation" not in sentence
    assert "CD after layer 3 is 0.90" in sentence


def test_shared_demonstrations_are_told_and_limit_the_intervals(plain):
    def said(demonstrations) -> tuple[str, str]:
        prompts = {**plain.spec["prompts"], **({"demonstrations": demonstrations} if demonstrations else {})}
        spec = {**plain.spec, "prompts": prompts}
        return describe(spec, plain.manifest, ["AND"])[1], " ".join(caveats(replace(plain, spec=spec)))

    for usual in (None, "fresh"):
        sentence, limits = said(usual)
        assert sentence.endswith("demonstrations before the query.") and "shared demonstrations" not in limits
    sentence, limits = said("shared")
    assert (
        sentence.endswith("the query, the same ones for all queries of a task.") and "shared demonstrations" in limits
    )
    sentence, limits = said({"sweep": ["fresh", "shared"]})
    assert "drawn anew for every query or the same ones" in sentence and "shared demonstrations" in limits
