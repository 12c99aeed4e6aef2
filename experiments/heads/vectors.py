"""The second run of a head experiment: function vectors of the best heads beside mean task vectors, at 0 shots."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from patchboard.engine.load import open_model
from patchboard.errors import SpecError
from patchboard.measure.head_effects import DRAWS, HEADS, Head, best_heads, random_heads
from patchboard.measure.statistics import Bootstrap, interval
from patchboard.plan.facts import ModelFacts
from patchboard.spec import Study, study_of
from patchboard.spec.edits import InterventionSection
from patchboard.spec.layers import parse_layers
from patchboard.spec.places import Several
from patchboard.spec.sections import Spec

ALL = "ALL"
ADDED, PATCHED = "mean added", "mean patched"
METRICS = ("probability", "logprob", "accuracy", "logit_difference")
"""By which heads may be ranked: more of them is better."""

CONDITIONS = {
    "condition": pl.String(),  # no vector, top heads, random heads, random vector, mean added, mean patched
    "heads": pl.Int32(),  # of the function vector; null where there is none
    "task": pl.String(),  # or ALL
    "layers": pl.List(pl.Int32()),  # at which it is used: best on even queries, all tasks; one for each random draw
    "accuracy": pl.Float64(),  # mean over odd queries
    "ci_low": pl.Float64(),  # bootstrap over odd queries within tasks
    "ci_high": pl.Float64(),
    "effect": pl.Float64(),  # accuracy - that of no vector, on the same queries
    "effect_low": pl.Float64(),
    "effect_high": pl.Float64(),
    "n": pl.Int32(),  # odd queries
}


def check_heads(study: Study, top: Sequence[int]) -> None:
    """Raises SpecError unless the study asks for what a head experiment is made of, ModelError for a model that cannot
    be opened.

    That is: nothing swept; ``heads``, which patches heads at their mean of same_task, one a cell; shuffled labels or no
    shots; a first metric of which more is better; two queries; as many heads as the largest of ``top``, twice.
    """
    if study.axes:
        raise SpecError(next(iter(study.axes)), "is swept, expected one setting", "run the script for each value")
    spec = study.points[0].spec
    section = spec.interventions.get(HEADS)
    if section is None or (section.op, section.site) != ("patch", "head") or _mean(section) != "same_task":
        what = "is not there as a patch at site head with a vector of same_task"
        raise SpecError(f"interventions.{HEADS}", what, "write {op: patch, vector: {mean: same_task}, site: head}")
    if isinstance(section.layers, Several):
        remedy = "write all or a list: each head is patched alone"
        raise SpecError(f"interventions.{HEADS}.layers", "edits several layers in one cell", remedy)
    if spec.prompts.labels != "shuffled" and spec.prompts.shots:
        what = "are the demonstrations' own, and tell the task without any head's help"
        raise SpecError("prompts.labels", what, "write shuffled, or prompts.shots: 0")
    if spec.metrics[0] not in METRICS:
        what = f"is {spec.metrics[0]}, by which heads cannot be ranked"
        raise SpecError("metrics[0]", what, f"let {', '.join(METRICS[:-1])} or {METRICS[-1]} stand first")
    if spec.prompts.queries < 2:
        raise SpecError("prompts.queries", "1 query cannot be halved", "use 2 or more: one half chooses")
    _check_top(spec, section, top)


def _mean(section: InterventionSection) -> str | None:
    return section.vector.mean if section.vector else None


def _check_top(spec: Spec, section: InterventionSection, top: Sequence[int]) -> None:
    facts = open_model(spec.model)[1]
    if "head" not in facts.sites:
        what = f"there are no attention heads in family '{facts.family}'"
        raise SpecError(f"interventions.{HEADS}.site", what, "use another model")
    most = len(_patched(section, facts))
    if 2 * top[-1] > most:
        what = f"asks for {top[-1]} heads of the {most} that are patched, and for as many others at random"
        raise SpecError("--top", what, f"ask for at most {most // 2}")


def _patched(section: InterventionSection, facts: ModelFacts) -> list[Head]:
    """All heads that the section patches, in the model's order."""
    assert not isinstance(section.layers, Several)
    layers = parse_layers(section.layers, facts.layers, f"interventions.{HEADS}.layers")
    heads = parse_layers(section.heads, facts.heads, f"interventions.{HEADS}.heads", "head")
    return sorted(itertools.product(layers, heads))


def unranked_study(study: Study, top: Sequence[int]) -> Study:
    """``vector_study`` before the first run has told which heads are the best: of as many heads, in the model's order.

    What it plans is what the second run will, but for which heads its vectors sum. study: one that passed
    ``check_heads``.
    """
    spec = study.points[0].spec
    heads = _patched(spec.interventions[HEADS], open_model(spec.model)[1])
    ranks = pl.DataFrame(heads, schema=["layer", "head"], orient="row").with_row_index("rank", offset=1)
    return vector_study(study, ranks, top)


def vector_study(study: Study, effects: pl.DataFrame, top: Sequence[int]) -> Study:
    """Prompts of 0 shots, and at each layer that ``heads`` is patched at: function vectors of the best heads and of
    random ones added; the mean task vector added (its difference from all tasks') and patched. effects: EFFECTS."""
    tree = study.tree
    patched = tree["interventions"][HEADS]
    fit = {name: patched["vector"][name] for name in ("shots", "prompts", "only")}
    place = {"layers": patched["layers"], "position": patched["position"]}

    def function(heads: Sequence[tuple[int, int]]) -> dict[str, Any]:
        vector = {"function_vector": "same_task", "heads": [list(pair) for pair in heads], **fit}
        return {"op": "add", "vector": vector, **place}

    seed = study.points[0].spec.prompts.seed
    interventions = {name_of("top", count): function(best_heads(effects, count)) for count in top}
    for count in top:
        others = random_heads(effects, best_heads(effects, top[-1]), count, seed)
        interventions |= {name_of("random", count, draw): function(heads) for draw, heads in enumerate(others)}
    difference = {"difference": ["same_task", "all_tasks"], **fit}
    interventions["mean-added"] = {"op": "add", "vector": difference, **place}
    interventions["mean-patched"] = {"op": "patch", "vector": {"mean": "same_task", **fit}, **place}
    metrics = ["accuracy", *(each for each in tree["metrics"] if each != "accuracy")]
    prompts = {**tree["prompts"], "shots": 0, "labels": "own"}
    changed = {"prompts": prompts, "interventions": interventions, "metrics": metrics, "name": f"{study.name}-vectors"}
    return study_of({**tree, **changed, "controls": ["self", "random"], "decodability": None})


def name_of(kind: str, count: int, draw: int = -1) -> str:
    """``top-4``, or ``random-4-0`` for a draw of random heads."""
    return f"{kind}-{count}" + (f"-{draw}" if draw >= 0 else "")


def conditions(
    outcomes: pl.LazyFrame, top: Sequence[int], bootstrap: Bootstrap, metric: str = "accuracy"
) -> pl.DataFrame:
    """CONDITIONS, with the metric's name in place of ``accuracy``; without a row where the run has no such metric.
    outcomes: store.schema.OUTCOMES of the run of ``vector_study``.

    Each vector is used at the layer where it raises the metric most on even queries, and is measured there on odd ones;
    a random vector where the function vector is whose norm it has. Of random heads a query's values are averaged over
    the draws: three draws are not three times as many queries.
    """
    rows = outcomes.filter(pl.col("metric") == metric, pl.col("clean").is_not_nan()).collect()
    if rows.is_empty() and metric != "accuracy":
        return pl.DataFrame(schema=CONDITIONS).rename({"accuracy": metric})
    measured = [_measured(rows, "no vector", None, ["mean-added"], "", bootstrap, column="clean")]
    for count in top:
        names = [name_of("random", count, draw) for draw in range(DRAWS)]
        measured.append(_measured(rows, "top heads", count, [name_of("top", count)], "", bootstrap))
        measured.append(_measured(rows, "random heads", count, names, "", bootstrap))
        measured.append(_measured(rows, "random vector", count, [name_of("top", count)], "random", bootstrap))
    measured.append(_measured(rows, ADDED, None, ["mean-added"], "", bootstrap))
    measured.append(_measured(rows, PATCHED, None, ["mean-patched"], "", bootstrap))
    return pl.concat(measured).rename({"accuracy": metric})


def best_layer(rows: pl.DataFrame, name: str) -> int:
    """Where the intervention raises the metric of the rows most on even queries; the earliest of equals."""
    even = rows.filter(pl.col("intervention") == name, pl.col("control") == "", pl.col("query") % 2 == 0)
    means = even.group_by("layer").agg((pl.col("patched") - pl.col("clean")).mean().alias("effect"))
    return means.sort("effect", "layer", descending=[True, False])["layer"][0]


def _measured(
    rows: pl.DataFrame, condition: str, heads: int | None, names: Sequence[str], control: str, bootstrap: Bootstrap,
    column: str = "patched",
) -> pl.DataFrame:  # fmt: skip
    """Its rows: ALL tasks, then each."""
    layers = {name: best_layer(rows, name) for name in names}
    here = pl.any_horizontal((pl.col("intervention") == n) & (pl.col("layer") == at) for n, at in layers.items())
    own = rows.filter(here, pl.col("control") == control, pl.col("query") % 2 == 1)
    means = own.group_by("task", "query", maintain_order=True).agg(pl.col(column, "clean").mean())
    rows_of_tasks = []
    for task in (ALL, *means["task"].unique(maintain_order=True)):
        part = means if task == ALL else means.filter(pl.col("task") == task)
        values = np.stack([part[column].to_numpy(), (part[column] - part["clean"]).to_numpy()], axis=1)
        low, high = interval(values, bootstrap, part["task"].to_list())
        (value, effect) = values.mean(axis=0)
        at = [] if column == "clean" else list(layers.values())
        rows_of_tasks.append((condition, heads, task, at, value, low[0], high[0], effect, low[1], high[1], len(part)))
    return pl.DataFrame(rows_of_tasks, schema=CONDITIONS, orient="row")
