"""Positive and negative interventions by task with replicates over seeds, and every task's mean on every task.

python experiments/intervention_bars.py                                # the embedded model, some two minutes of a core
python experiments/intervention_bars.py --tasks.family=pos
python experiments/intervention_bars.py --model meta-llama/Llama-3.2-1B --device cuda
"""

import sys
from pathlib import Path
from typing import Any

from patchboard.lab.language.command import LanguageExperiment, language_script
from patchboard.spec import Study

# torch and matplotlib take seconds to load, which a refusal of the command line need not wait for


def prepared(study: Study) -> Study:
    from patchboard.lab.language.interventions import with_sources

    return with_sources(study)


def examined(*arguments: Any) -> Path:
    from patchboard.lab.language.interventions import examine

    return examine(*arguments)


def told(summary: dict[str, Any]) -> list[str]:
    from patchboard.lab.language.interventions_findings import findings

    return findings(summary)


if __name__ == "__main__":
    spec = Path(__file__).parent / "specs" / "intervention_bars.yaml"
    description = (__doc__ or "").splitlines()[0]
    sys.exit(language_script(LanguageExperiment(description, spec, prepared, examined, told)))
