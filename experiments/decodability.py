"""Where can a task be read off the state: CD by layer, shots and task, of pairs of tasks, and a picture of the states.

python experiments/decodability.py                                    # the embedded model, some 20 seconds of a core
python experiments/decodability.py --tasks.family=pos
python experiments/decodability.py --projection umap                  # as the paper draws it; pip install -e ".[umap]"
python experiments/decodability.py --model meta-llama/Llama-3.2-1B --device cuda
"""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from patchboard.lab.language.command import LanguageExperiment, language_script
from patchboard.spec import Study

# torch and matplotlib take seconds to load, which a refusal of the command line need not wait for


def flags(parser: ArgumentParser) -> None:
    text = "how the states are placed in two dimensions (default: pca); umap needs the extra: pip install -e '.[umap]'"
    parser.add_argument("--projection", default="pca", choices=("pca", "umap"), help=text)


def prepared(study: Study, **own: Any) -> Study:
    from patchboard.lab.language.decodability import suited

    return suited(study, **own)


def examined(*arguments: Any, **own: Any) -> Path:
    from patchboard.lab.language.decodability import examine

    return examine(*arguments, **own)


def told(summary: dict[str, Any]) -> list[str]:
    from patchboard.lab.language.decodability_findings import findings

    return findings(summary)


if __name__ == "__main__":
    spec = Path(__file__).parent / "specs" / "decodability.yaml"
    reason = "pairs and the projection need the states of all prompts at once"
    description = (__doc__ or "").splitlines()[0]
    sys.exit(language_script(LanguageExperiment(description, spec, prepared, examined, told, flags, reason)))
