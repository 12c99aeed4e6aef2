"""Knowledge hijack: what a prompt shows against what training taught, with absolute and with rotary positions.

python experiments/hijack.py                           # two small models, minutes on one core
python experiments/hijack.py --full --device cuda      # sequences of 256 tokens, as in the paper
"""

import sys
from pathlib import Path
from typing import Any

from patchboard.experiments.hijack.plan import plan
from patchboard.experiments.hijack.settings import Hijack
from patchboard.lab.command import Experiment, lab_script

# torch and matplotlib take seconds to load, which a plan or a refusal need not wait for


def run(*arguments: Any) -> Path:
    from patchboard.experiments.hijack.run import run

    return run(*arguments)


def told(summary: dict[str, Any]) -> list[str]:
    from patchboard.experiments.hijack.findings import findings

    return findings(summary)


if __name__ == "__main__":
    specs = Path(__file__).parent / "specs"
    description = (__doc__ or "").splitlines()[0]
    files = specs / "hijack.yaml", specs / "hijack_full.yaml"
    sys.exit(lab_script(Experiment(description, Hijack, *files, plan=plan, run=run, told=told)))
