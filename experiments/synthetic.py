"""Mixture of sparse linear regression: error, Concept Decodability and task vectors as a transformer is trained.

python experiments/synthetic.py                          # a small model; watched from the first step to the last
python experiments/synthetic.py --full --device cuda     # the paper's size
python experiments/synthetic.py experiments/specs/synthetic_one_by_one.yaml      # a variant
"""

import sys
from pathlib import Path

from patchboard.experiments.synthetic.findings import findings
from patchboard.experiments.synthetic.plan import plan
from patchboard.experiments.synthetic.settings import Settings
from patchboard.lab.command import Experiment, lab_script


def run(*arguments):
    from patchboard.experiments.synthetic.run import run  # torch, which a plan and a refusal can do without

    return run(*arguments)


if __name__ == "__main__":
    specs = Path(__file__).parent / "specs"
    description = (__doc__ or "").splitlines()[0]
    files = specs / "synthetic.yaml", specs / "synthetic_full.yaml"
    sys.exit(lab_script(Experiment(description, Settings, *files, plan=plan, run=run, told=findings)))
