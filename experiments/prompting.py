"""The concept stated in the prompt: CD, accuracy and effects with the task's name before the demonstrations or not.

python experiments/prompting.py                                     # a half-trained model, some two minutes of a core
python experiments/prompting.py "--tasks={family: pos, source: grammar}"
python experiments/prompting.py experiments/specs/prompting_pos.yaml --model meta-llama/Llama-3.2-1B --device cuda
"""

import sys
from pathlib import Path
from typing import Any

from patchboard.lab.beside import with_models_beside
from patchboard.lab.language.command import LanguageExperiment, language_script
from patchboard.spec import Study

# torch and matplotlib take seconds to load, which a refusal of the command line need not wait for


def prepared(study: Study) -> Study:
    from patchboard.lab.language.prompting import stated_and_not

    return stated_and_not(with_models_beside(study, Path(__file__).parent))


def examined(*arguments: Any) -> Path:
    from patchboard.lab.language.prompting import examine

    return examine(*arguments)


def told(summary: dict[str, Any]) -> list[str]:
    from patchboard.lab.language.prompting_findings import findings

    return findings(summary)


if __name__ == "__main__":
    spec = Path(__file__).parent / "specs" / "prompting.yaml"
    description = (__doc__ or "").splitlines()[0]
    sys.exit(language_script(LanguageExperiment(description, spec, prepared, examined, told)))
