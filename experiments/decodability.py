"""Where can a task be read off the state: CD by layer, shots and task, of pairs of tasks, and a picture of the states.

python experiments/decodability.py                                    # the embedded model, some 20 seconds of a core
python experiments/decodability.py --tasks.family=pos
python experiments/decodability.py --decodability.twin=true --decodability.shuffled=100    # with its floors
python experiments/decodability.py --projection umap                  # as the paper draws it; pip install -e ".[umap]"
python experiments/decodability.py --model meta-llama/Llama-3.2-1B --device cuda
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING

from patchboard.experiment.command import StudyScript

if TYPE_CHECKING:
    from patchboard.experiment.frame import StudyExperiment
    from patchboard.experiment.projection import Method


def add_flags(parser: ArgumentParser) -> None:
    text = "how the states are placed in two dimensions (default: pca); umap needs the extra: pip install -e '.[umap]'"
    parser.add_argument("--projection", default="pca", choices=("pca", "umap"), help=text)


def experiment(projection: Method) -> StudyExperiment:
    from patchboard.experiments.decodability.experiment import Decodability  # torch takes seconds to load

    return Decodability(projection)


if __name__ == "__main__":
    spec = Path(__file__).parent / "specs" / "decodability.yaml"
    reason = "pairs and the projection need the states of all prompts at once"
    sys.exit(StudyScript(__doc__, spec, experiment, add_flags, reason).main())
