"""Mixture of sparse linear regression: error, Concept Decodability and task vectors as a transformer is trained.

python experiments/synthetic.py                          # a small model; watched from the first step to the last
python experiments/synthetic.py --full --device cuda     # the paper's size
python experiments/synthetic.py experiments/specs/synthetic_one_by_one.yaml      # a variant
"""

import sys
from pathlib import Path
from typing import Any

from patchboard.experiment.command import TrainingScript
from patchboard.experiments.synthetic.settings import SyntheticSettings


def experiment() -> Any:
    from patchboard.experiments.synthetic.experiment import Synthetic  # its libraries take seconds to load

    return Synthetic()


if __name__ == "__main__":
    specs = Path(__file__).parent / "specs"
    files = specs / "synthetic.yaml", specs / "synthetic_full.yaml"
    sys.exit(TrainingScript(__doc__, SyntheticSettings, *files, experiment).main())
