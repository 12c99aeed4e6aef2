"""Finetuning the first or the last layers (LoRA): CD, accuracy and effects before and after, beside prompting.

python experiments/finetune.py                                       # a half-trained model, some ten minutes of a core
python experiments/finetune.py "--study.tasks={family: pos, source: grammar}"
python experiments/finetune.py --full --device cuda                  # Llama-3.1-8B, 10 of 32 layers, as in the paper
"""

import sys
from pathlib import Path
from typing import Any

from patchboard.cli.arguments import prepare_libraries
from patchboard.experiments.finetune.settings import Settings, settled
from patchboard.lab.command import Experiment, lab_script

# torch and matplotlib take seconds to load, which a refusal of the command line need not wait for

HERE = Path(__file__).parent


def plan(settings: Settings) -> dict[str, Any]:
    prepare_libraries()
    from patchboard.experiments.finetune.plan import plan

    return plan(settled(settings, HERE))


def run(settings: Settings, *arguments: Any) -> Path:
    prepare_libraries()
    from patchboard.experiments.finetune.run import run

    return run(settled(settings, HERE), *arguments)


def told(summary: dict[str, Any]) -> list[str]:
    from patchboard.experiments.finetune.findings import findings

    return findings(summary)


if __name__ == "__main__":
    description = (__doc__ or "").splitlines()[0]
    files = HERE / "specs" / "finetune.yaml", HERE / "specs" / "finetune_full.yaml"
    sys.exit(lab_script(Experiment(description, Settings, *files, plan=plan, run=run, told=told)))
