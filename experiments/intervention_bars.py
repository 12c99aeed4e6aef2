"""Positive and negative interventions by task with replicates over seeds, and every task's mean on every task.

python experiments/intervention_bars.py                                # the embedded model, some two minutes of a core
python experiments/intervention_bars.py --tasks.family=pos
python experiments/intervention_bars.py --model meta-llama/Llama-3.2-1B --device cuda
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from patchboard.experiment.command import StudyScript

if TYPE_CHECKING:
    from patchboard.experiment.frame import StudyExperiment


def experiment() -> StudyExperiment:
    from patchboard.experiments.intervention_bars.experiment import InterventionBars  # torch takes seconds to load

    return InterventionBars()


if __name__ == "__main__":
    sys.exit(StudyScript(__doc__, Path(__file__).parent / "specs" / "intervention_bars.yaml", experiment).main())
