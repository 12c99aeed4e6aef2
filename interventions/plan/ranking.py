"""Heads in the order of their importance: as a spec lists them, or by their effects in a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from patchboard.errors import SpecError
from patchboard.registry import suggest
from patchboard.spec.head_pairs import parse_pairs
from patchboard.spec.keep import Keep, RunRanking
from patchboard.user_paths import expanded

Head = tuple[int, int]
"""(layer, head)."""

_OWN = ("control", "metric", "layer", "layers", "head", "effect", "n")
_FILE = "curves.parquet"


def ranking_file(keep: Keep, where: str) -> Path | None:
    """The file that the ranking is read from, if it is a run's. Raises SpecError where it is not there."""
    if not isinstance(keep.ranking, RunRanking):
        return None
    file = expanded(keep.ranking.run) / _FILE
    if not file.is_file():
        what = f"'{keep.ranking.run}' has no {_FILE}, expected the folder of a finished run"
        raise SpecError(f"{where}.keep.ranking.run", what, "run its spec first, or write [[layer, head], …]")
    return file


def kept_heads(keep: Keep, heads: Sequence[Head], shape: Head, where: str) -> tuple[Head, ...]:
    """Those of ``heads`` that are kept, in the ranking's order (under ``all`` in their own).

    shape: the model's numbers of layers and of heads in each. Raises SpecError for a ranking that is no list of these
    heads, or is shorter than what is wanted of it.
    """
    if keep.first == "all":
        return tuple(heads)
    at = f"{where}.keep.ranking"
    file = ranking_file(keep, where)
    if file is None:
        assert isinstance(keep.ranking, list)
        ranked = list(parse_pairs(keep.ranking, *shape, at))
    else:
        assert isinstance(keep.ranking, RunRanking)
        told = keep.ranking
        found = _read(file, file.stat().st_mtime_ns, told.intervention, told.metric, told.by, at)
        ranked = list(parse_pairs([list(pair) for pair in found], *shape, at))
    foreign = next((pair for pair in ranked if pair not in heads), None)
    if foreign is not None:
        what = f"has head {foreign[1]} of layer {foreign[0]}, which is not among the intervention's heads"
        raise SpecError(at, what, "leave it out, or widen layers and heads")
    if keep.first > len(ranked):
        what = f"found {keep.first}, the ranking has {len(ranked)} heads of the {len(heads)}"
        raise SpecError(f"{where}.keep.first", what, f"write at most {len(ranked)}, or all")
    return tuple(ranked[: keep.first])


@lru_cache(maxsize=8)
def _read(
    file: Path, changed: int, intervention: str, metric: str | None, by: str, where: str
) -> tuple[Head, ...]:  # fmt: skip
    """changed: when the file was, so that it is read again then."""
    import polars as pl  # takes a third of a second to load, and few specs rank heads by a run

    table = pl.read_parquet(file, glob=False).filter(pl.col("control") == "", pl.col("head") >= 0)
    named = table["intervention"].unique(maintain_order=True).to_list()
    if intervention not in named:
        what = f"the run has no intervention '{intervention}' on one head a cell"
        remedy = suggest(intervention, named) if named else "choose a run that has one"
        raise SpecError(f"{where}.intervention", what, remedy)
    table = table.filter(pl.col("intervention") == intervention)
    metrics = table["metric"].unique(maintain_order=True).to_list()
    wanted = metric or metrics[0]
    if wanted not in metrics:
        raise SpecError(f"{where}.metric", f"the run has no metric '{wanted}' there", suggest(wanted, metrics))
    table = table.filter(pl.col("metric") == wanted, pl.col("n") > 0)
    if table.select("layers", "head").is_duplicated().any() or table["layers"].str.contains(",").any():
        what = f"'{intervention}' has several cells of a head there, or cells of several layers"
        raise SpecError(f"{where}.run", what, "rank by a run without sweeps, of one layer a cell")
    effect = pl.col("effect")
    largest = {"size": effect.abs(), "fall": -effect, "rise": effect}[by]
    order = table.sort(largest, descending=True, maintain_order=True)
    return tuple(zip(order["layer"].to_list(), order["head"].to_list(), strict=True))
