"""When in training is a task readable, answered and causal: CD, accuracy and effect over a model's checkpoints.

python experiments/checkpoints.py                            # the embedded model's own training, some minutes of a core
python experiments/checkpoints.py --folders 'runs/train/step*'
python experiments/checkpoints.py --model EleutherAI/pythia-410m --revisions 'step*000' --tasks.bits=null --device cuda
"""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from patchboard.lab.language.command import LanguageExperiment, language_script
from patchboard.spec import Study

HERE = Path(__file__).parent

# torch and matplotlib take seconds to load, which a refusal of the command line need not wait for


def flags(parser: ArgumentParser) -> None:
    own = parser.add_argument_group("checkpoints (or sweep model.name or model.revision)")
    own.add_argument("--folders", metavar="PATTERN", help="local folders with the step in their names: 'runs/x/step*'")
    own.add_argument("--revisions", metavar="PATTERN", help="branches and tags of --model on the Hub: 'step*'")


def prepared(study: Study, folders: str | None, revisions: str | None) -> Study:
    from patchboard.lab.language.checkpoints import swept_over

    return swept_over(study, HERE / "models" / "checkpoints", folders, revisions)


def examined(study: Study, run: Path, options: Any, folders: str | None, revisions: str | None) -> Path:
    from patchboard.lab.language.checkpoints import examine

    return examine(study, run, options, revisions)


def told(summary: dict[str, Any]) -> list[str]:
    from patchboard.lab.language.checkpoints_findings import findings

    return findings(summary)


if __name__ == "__main__":
    spec = HERE / "specs" / "checkpoints.yaml"
    description = (__doc__ or "").splitlines()[0]
    sys.exit(language_script(LanguageExperiment(description, spec, prepared, examined, told, flags)))
