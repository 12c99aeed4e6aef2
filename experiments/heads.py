"""Which heads carry the task: causal indirect effect of each, and what the best ones' function vector installs.

python experiments/heads.py                                         # the embedded model, some two minutes of a core
python experiments/heads.py --tasks.family=pos --prompts.shots=0 --prompts.labels=own
python experiments/heads.py --model meta-llama/Llama-3.2-1B --device cuda --top 1,5,10,20
python experiments/heads.py experiments/specs/heads_real.yaml --top 1,4,16        # SmolLM2-135M, some seven minutes
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING

from patchboard.experiment.command import StudyScript
from patchboard.experiments.heads.counts import counts

if TYPE_CHECKING:
    from patchboard.experiment.frame import StudyExperiment


def add_flags(parser: ArgumentParser) -> None:
    about = "sizes of the function vectors, in heads (default: 1,2,4,8)"
    parser.add_argument("--top", type=counts, default=(1, 2, 4, 8), metavar="N,N", help=about)


def experiment(top: tuple[int, ...]) -> StudyExperiment:
    from patchboard.experiments.heads.experiment import Heads  # torch takes seconds to load

    return Heads(top)


if __name__ == "__main__":
    sys.exit(StudyScript(__doc__, Path(__file__).parent / "specs" / "heads.yaml", experiment, add_flags).main())
