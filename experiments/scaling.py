"""Does a larger model read, answer and obey more: CD, accuracy and effect against both counts of parameters.

python experiments/scaling.py                                 # the embedded model and its smaller siblings
python experiments/scaling.py runs/pythia-70m runs/pythia-410m runs/pythia-1b      # finished runs of one spec
python experiments/scaling.py "--model.name={sweep: [EleutherAI/pythia-70m, EleutherAI/pythia-410m]}" --tasks.bits=null
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from patchboard.experiments.scaling.command import ScalingScript

if TYPE_CHECKING:
    from patchboard.experiment.frame import StudyExperiment

HERE = Path(__file__).parent


def experiment() -> StudyExperiment:
    from patchboard.experiments.scaling.experiment import Scaling  # torch takes seconds to load

    return Scaling(HERE / "models" / "sizes")


if __name__ == "__main__":
    sys.exit(ScalingScript(__doc__, HERE / "specs" / "scaling.yaml", experiment).main())
