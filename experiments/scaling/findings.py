"""Models of several sizes in words and in tables of text, from the summary alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from patchboard.experiment.page import Table
from patchboard.report.numbers import counted, fraction, signed

Summary = Mapping[str, Any]

COUNT_NAMES = {"parameters": "all parameters", "non_embedding": "non-embedding parameters"}
_TELLING = 5
"""Models from which on a rank correlation of 1 is rarer by chance than one in a hundred (1/120)."""


def introduction(summary: Summary) -> list[str]:
    """What was run, in sentences."""
    return [
        f"{summary['models']} models, tasks of the family {summary['family']}. CD: of the best layer (chance"
        f" {fraction(summary['chance'])}), accuracy on the same prompts. Effects: on {summary['metric']}, at the layer"
        " that one half of the queries chose, measured on the other half.",
        "All parameters is Chinchilla's count; non-embedding, Kaplan's: without input embeddings, learned positions and"
        " an output head of its own (arXiv 2406.12907: with small models the two counts tell different laws).",
        f"Brackets hold {summary['level']:.0%} of a bootstrap over prompts or queries of one model each: they do not"
        " hold how another training of the same size would come out.",
    ]


def findings(summary: Summary) -> list[str]:
    return list(_told(summary))


def _told(summary: Summary) -> Iterator[str]:
    by = {(each["measure"], each["shots"], each["count"]): each for each in summary["with_size"]}
    for (measure, shots, count), found in by.items():
        other = by[measure, shots, "non_embedding"]
        if count == "parameters" and found["spearman"] is not None:
            little = "" if found["n"] >= _TELLING else "; with so few models this can be chance"
            yield (
                f"{measure} ({counted(shots, 'shot')}): rank correlation {found['spearman']:+.2f} with all"
                f" parameters, {fraction(other['spearman'])} with non-embedding ones (n = {found['n']}{little})."
            )
    for count, found in summary["exponents"].items():
        if found is None:
            yield f"No exponent of the error rate by {COUNT_NAMES[count]}: it takes 3 models, of some sizes, that err."
        else:
            yield (
                f"Error rate ~ N^-{found['exponent']:.2f} by {COUNT_NAMES[count]} (standard error"
                f" {fraction(found['stderr'])}, R² {fraction(found['r2'])}, n = {found['n']})."
            )


def overview(summary: Summary) -> list[Table]:
    """The table of the page: a row a model."""
    rows = summary["sized"]
    columns = list(dict.fromkeys((r["measure"], r["control"], r["shots"]) for r in rows))
    heads = ["model", "layers", *COUNT_NAMES.values(), *(label(*column) for column in columns)]
    table = []
    for key in dict.fromkeys((r["model"], r["revision"]) for r in rows):
        own = {(r["measure"], r["control"], r["shots"]): r for r in rows if (r["model"], r["revision"]) == key}
        first = next(iter(own.values()))
        size = [str(first["layers"]), f"{first['parameters']:,}", f"{first['non_embedding']:,}"]
        table.append([short(*key), *size, *(_value(own.get(column)) for column in columns)])
    return [Table("By model", heads, table)]


def label(measure: str, control: str, shots: int) -> str:
    """``added, random (0 shots)``."""
    return f"{measure}{', ' + control if control else ''} ({counted(shots, 'shot')})"


def short(model: str, revision: str) -> str:
    """A model's name without its folders, and its revision where that is not main."""
    return Path(model).name + ("" if revision == "main" else f" {revision}")


def _value(row: Summary | None) -> str:
    if row is None or row["value"] is None:
        return "-"
    written = fraction if row["measure"] in ("CD", "accuracy") else signed
    layer = "" if row["layer"] is None or row["control"] else f", layer {row['layer']}"
    return f"{written(row['value'])} [{written(row['low'])}, {written(row['high'])}]{layer}"
