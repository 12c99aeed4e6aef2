"""When in training is a task readable, answered and causal: CD, accuracy and effect over a model's checkpoints.

python experiments/checkpoints.py                            # the embedded model's own training, some minutes of a core
python experiments/checkpoints.py --folders 'runs/train/step*'
python experiments/checkpoints.py --model EleutherAI/pythia-410m --revisions 'step*000' --tasks.bits=null --device cuda
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING

from patchboard.experiment.command import StudyScript

if TYPE_CHECKING:
    from patchboard.experiment.frame import StudyExperiment

HERE = Path(__file__).parent


def add_flags(parser: ArgumentParser) -> None:
    own = parser.add_argument_group("checkpoints (or sweep model.name or model.revision)")
    own.add_argument("--folders", metavar="PATTERN", help="local folders with the step in their names: 'runs/x/step*'")
    own.add_argument("--revisions", metavar="PATTERN", help="branches and tags of --model on the Hub: 'step*'")


def experiment(folders: str | None, revisions: str | None) -> StudyExperiment:
    from patchboard.experiments.checkpoints.experiment import Checkpoints  # torch takes seconds to load

    return Checkpoints(HERE / "models" / "checkpoints", folders, revisions)


if __name__ == "__main__":
    sys.exit(StudyScript(__doc__, HERE / "specs" / "checkpoints.yaml", experiment, add_flags).main())
