"""Direct effects of heads on who is named, beside those that the IOI paper prints for GPT-2 small.

python experiments/ioi_published.py                                 # GPT-2 small from the Hub, some minutes of a core
python experiments/ioi_published.py --model /models/gpt2            # or from a folder
python experiments/ioi_published.py --model smollm2-135m            # any other model: without a published column
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from patchboard.experiment.command import StudyScript

if TYPE_CHECKING:
    from patchboard.experiment.frame import StudyExperiment


def experiment() -> StudyExperiment:
    from patchboard.experiments.ioi_published.experiment import Published  # torch takes seconds to load

    return Published()


if __name__ == "__main__":
    sys.exit(StudyScript(__doc__, Path(__file__).parent / "specs" / "ioi_published.yaml", experiment).main())
