"""The concept stated in the prompt: CD, accuracy and effects with the task's name before the demonstrations or not.

python experiments/prompting.py                                     # a half-trained model, some two minutes of a core
python experiments/prompting.py "--tasks={family: pos, source: grammar}"
python experiments/prompting.py experiments/specs/prompting_pos.yaml --model meta-llama/Llama-3.2-1B --device cuda
python experiments/prompting.py experiments/specs/prompting_real.yaml                # SmolLM2-135M, some seven minutes
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from patchboard.experiment.command import StudyScript

if TYPE_CHECKING:
    from patchboard.experiment.frame import StudyExperiment

HERE = Path(__file__).parent


def experiment() -> StudyExperiment:
    from patchboard.experiments.prompting.experiment import Prompting  # torch takes seconds to load

    return Prompting(HERE)


if __name__ == "__main__":
    sys.exit(StudyScript(__doc__, HERE / "specs" / "prompting.yaml", experiment).main())
