"""The concept stated in the prompt: CD, accuracy and effects with the task's name before the demonstrations or not.

python experiments/prompting.py                                     # a half-trained model, some two minutes of a core
python experiments/prompting.py "--tasks={family: pos, source: grammar}"
python experiments/prompting.py experiments/specs/prompting_pos.yaml --model meta-llama/Llama-3.2-1B --device cuda
"""

import sys
from pathlib import Path
from typing import Any

from patchboard.experiment.command import StudyScript

HERE = Path(__file__).parent


def experiment() -> Any:
    from patchboard.experiments.prompting.experiment import Prompting  # torch takes seconds to load

    return Prompting(HERE)


if __name__ == "__main__":
    sys.exit(StudyScript(__doc__, HERE / "specs" / "prompting.yaml", experiment).main())
