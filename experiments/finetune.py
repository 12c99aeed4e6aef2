"""Finetuning the first or the last layers (LoRA): CD, accuracy and effects before and after, beside prompting.

python experiments/finetune.py                                       # a half-trained model, some ten minutes of a core
python experiments/finetune.py "--study.tasks={family: pos, source: grammar}"
python experiments/finetune.py --full --device cuda                  # Llama-3.1-8B, 10 of 32 layers, as in the paper
python experiments/finetune.py experiments/specs/finetune_real.yaml       # SmolLM2-135M, a quarter of an hour
"""

import sys
from pathlib import Path
from typing import Any

from patchboard.experiment.command import TrainingScript
from patchboard.experiments.finetune.settings import FinetuneSettings

HERE = Path(__file__).parent


def experiment() -> Any:
    from patchboard.experiments.finetune.experiment import Finetune  # its libraries take seconds to load

    return Finetune(HERE)


if __name__ == "__main__":
    files = HERE / "specs" / "finetune.yaml", HERE / "specs" / "finetune_full.yaml"
    sys.exit(TrainingScript(__doc__, FinetuneSettings, *files, experiment).main())
