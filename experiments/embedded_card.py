"""Measure the embedded model and write its card: accuracy, decodability and what its task vectors do.

python experiments/embedded_card.py        # two runs of about half a minute each
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from patchboard.execution.run import Options, run_study
from patchboard.measure.decodability import ALL
from patchboard.spec import load_study

HERE = Path(__file__).parent
CARD = HERE.parent / "interventions" / "embedded" / "MODEL_CARD.md"
WEIGHTS = CARD.parent / "weights"
SHOTS = [0, 1, 2, 4, 8]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def accuracy_table(run: Path) -> str:
    found = pl.read_parquet(run / "decodability.parquet").filter(
        (pl.col("layer") == 0) & pl.col("accuracy").is_not_nan()
    )
    rows = []
    for task in found["task"].unique(maintain_order=True):
        own = {r["shots"]: r["accuracy"] for r in found.filter(pl.col("task") == task).iter_rows(named=True)}
        rows.append([task, *(f"{own[s]:.2f}" for s in SHOTS)])
    return markdown(["accuracy at … shots", *map(str, SHOTS)], rows)


def decodability_table(run: Path) -> str:
    found = pl.read_parquet(run / "decodability.parquet").filter(pl.col("task") == ALL).sort("layer")
    layers = sorted(found["layer"].unique())
    rows = [[str(s), *(f"{v:.2f}" for v in found.filter(pl.col("shots") == s)["cd"])] for s in SHOTS]
    return markdown(["CD, shots \\ layer", *map(str, layers)], rows)


def effect_table(run: Path) -> str:
    """Accuracy at 0 shots under each edit, by layer; conversion under another task's vector."""
    found = pl.read_parquet(run / "curves.parquet").filter((pl.col("shots") == 0) & (pl.col("control") != "self"))
    layers = sorted(found["layer"].unique())
    rows = []
    for metric, name in (("accuracy", ""), ("conversion", ", converted to its task")):
        for (intervention, control), part in found.filter(pl.col("metric") == metric).group_by(
            ["intervention", "control"], maintain_order=True
        ):
            values = part.sort("layer")
            label = f"{intervention}{f', {control}' if control else ''}{name}"
            rows.append([label, f"{values['clean'][0]:.2f}", *(f"{v:.2f}" for v in values["patched"])])
    return markdown(["accuracy at 0 shots", "clean", *(f"layer {layer}" for layer in layers)], rows)


def section(family: str) -> str:
    overrides = {"tasks.family": family, "decodability.shots": SHOTS, "name": f"card-{family}"}
    run = run_study(load_study(HERE / "specs" / "patch_sweep.yaml", overrides), Options())
    return "\n\n".join([f"## {family}", accuracy_table(run), decodability_table(run), effect_table(run)])


def main() -> None:
    config = json.loads((WEIGHTS / "config.json").read_text())
    recipe = json.loads((WEIGHTS / "training.json").read_text())
    text = (HERE / "embedded_card.template").read_text().format(
        layers=config["num_hidden_layers"], width=config["hidden_size"], heads=config["num_attention_heads"],
        mlp=config["intermediate_size"], vocabulary=config["vocab_size"], recipe=json.dumps(recipe),
        megabytes=f"{(WEIGHTS / 'model.safetensors').stat().st_size / 1e6:.1f}",
    )  # fmt: skip
    CARD.write_text(
        text + "\n" + "\n\n".join(section(family) for family in ("bitwise", "pos")) + "\n", encoding="utf-8"
    )
    print(CARD)


if __name__ == "__main__":
    main()
