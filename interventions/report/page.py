"""report.html: one self-contained page, from the run folder's files alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from interventions.report.figures import Tables, draw_all, setting_label, settings_of
from interventions.report.wording import caveats, findings, headline_rows, number
from interventions.spec.load import read_yaml
from interventions.store.folder import atomically, read_manifest


def write_report(folder: Path) -> Path:
    """Draw figures/*.png and report.html of a finished run; returns the page's path."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    tables = Tables(
        *(pl.read_parquet(folder / f"{name}.parquet") for name in ("curves", "effects", "decodability")),
        summary=summary,
    )
    drawn = draw_all(tables, folder / "figures")
    spec_text = (folder / "spec.yaml").read_text(encoding="utf-8")
    spec, manifest = read_yaml(spec_text, "spec.yaml"), read_manifest(folder)
    environment = Environment(
        loader=PackageLoader("interventions", "report"), autoescape=select_autoescape(default=True), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("page.html.j2").render(
        title=manifest.get("name", folder.name),
        manifest=manifest,
        what=_what_was_run(spec, manifest),
        rows=headline_rows(summary),
        metric=summary["metric"],
        level=spec["statistics"]["level"],
        findings=findings(summary, spec["statistics"]["level"]),
        caveats=caveats(manifest),
        figures=[(figure, _as_data(folder / "figures" / figure.name)) for figure in drawn],
        full=_full_table(tables.curves),
        spec_text=spec_text,
    )
    atomically(folder / "report.html", lambda path: path.write_text(page, encoding="utf-8"))
    return folder / "report.html"


def _as_data(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


def _what_was_run(spec: dict, manifest: dict) -> list[str]:
    """The run in plain sentences."""
    lines = []
    for model in manifest.get("models", []):
        lines.append(
            f"Model {model['name']} ({model['family']}, {model['layers']} layers, width {model['width']}, "
            f"{model['parameters']:,} parameters) in {model['dtype']} on {model['device']}."
        )
    prompts = spec["prompts"]
    shots = prompts["shots"]["sweep"] if isinstance(prompts["shots"], dict) else prompts["shots"]
    lines.append(f"Task family {spec['tasks']['family']}; {prompts['queries']} queries a task, shots {shots}.")
    for name, section in spec["interventions"].items():
        edits = section["edits"] or [section]
        told = "; ".join(
            f"{e['op']} {_vector(e.get('vector'))} at {e['site']}, position {e['position']}, strength {e['strength']}"
            for e in edits
        )
        lines.append(f"{name}: {told}.")
    for cost in manifest.get("cost", []):
        seconds = manifest.get("seconds", {}).get("total")
        lines.append(
            f"{cost['cells']} cells over {cost['queries']} queries in {cost['forwards']} forward passes"
            + (f", {seconds:.0f} s in all" if seconds else "")
            + f"; a loop of one pass a cell and query would take {cost['loop_forwards']:,} passes."
        )
    return lines


def _vector(vector: dict | None) -> str:
    if not vector:
        return "(no vector)"
    if vector.get("subspace"):
        return (
            f"the {vector['method'].upper()} subspace of {vector['subspace']} (rank {vector['rank'] or 'labels - 1'})"
        )
    if vector.get("difference"):
        return f"mean({vector['difference'][0]}) − mean({vector['difference'][1]})"
    return f"mean({vector['mean']})"


def _full_table(curves: pl.DataFrame) -> list[dict[str, str]]:
    """Every pooled cell as text, for the table at the page's end."""
    if curves.is_empty():
        return []
    swept = list(settings_of(curves)[0])
    return [
        {
            "intervention": row["intervention"],
            "control": row["control"] or "–",
            "at": setting_label({path: row[path] for path in swept}),
            "layers": row["layers"],
            "position": row["position"],
            "strength": f"{row['strength']:g}",
            "metric": row["metric"],
            "clean": number(row["clean"]),
            "edited": number(row["patched"]),
            "effect": number(row["effect"], True),
            "interval": f"[{number(row['ci_low'], True)}, {number(row['ci_high'], True)}]",
            "n": str(row["n"]),
        }
        for row in curves.iter_rows(named=True)
    ]
