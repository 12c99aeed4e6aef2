"""Does a larger model read, answer and obey more: CD, accuracy and effect against both counts of parameters.

python experiments/scaling.py                                 # the embedded model and its smaller siblings
python experiments/scaling.py runs/pythia-70m runs/pythia-410m runs/pythia-1b      # finished runs of one spec
python experiments/scaling.py "--model.name={sweep: [EleutherAI/pythia-70m, EleutherAI/pythia-410m]}" --tasks.bits=null
"""

import sys
from pathlib import Path
from typing import Any

from patchboard.lab.language.command import LanguageExperiment
from patchboard.lab.language.scaling_command import scaling_script
from patchboard.spec import Study

HERE = Path(__file__).parent

# torch and matplotlib take seconds to load, which a refusal of the command line need not wait for


def prepared(study: Study) -> Study:
    from patchboard.lab.language.scaling import several

    return several(study, HERE / "models" / "sizes")


def examined(*arguments: Any) -> Path:
    from patchboard.lab.language.scaling import examine

    return examine(*arguments)


def compared(*arguments: Any) -> Path:
    from patchboard.lab.language.scaling import compare

    return compare(*arguments)


def told(summary: dict[str, Any]) -> list[str]:
    from patchboard.lab.language.scaling_findings import findings

    return findings(summary)


if __name__ == "__main__":
    spec = HERE / "specs" / "scaling.yaml"
    description = (__doc__ or "").splitlines()[0]
    sys.exit(scaling_script(LanguageExperiment(description, spec, prepared, examined, told), compared))
