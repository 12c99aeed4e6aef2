"""Knowledge hijack: what a prompt shows against what training taught, with absolute and with rotary positions.

python experiments/hijack.py                           # two small models, minutes on one core
python experiments/hijack.py --full --device cuda      # sequences of 256 tokens, as in the paper
"""

import sys
from pathlib import Path
from typing import Any

from patchboard.experiment.command import TrainingScript
from patchboard.experiments.hijack.settings import HijackSettings


def experiment() -> Any:
    from patchboard.experiments.hijack.experiment import Hijack  # its libraries take seconds to load

    return Hijack()


if __name__ == "__main__":
    specs = Path(__file__).parent / "specs"
    files = specs / "hijack.yaml", specs / "hijack_full.yaml"
    sys.exit(TrainingScript(__doc__, HijackSettings, *files, experiment).main())
