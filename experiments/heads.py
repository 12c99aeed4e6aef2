"""Which heads carry the task: causal indirect effect of each, and what the best ones' function vector installs.

python experiments/heads.py                                         # the embedded model, some two minutes of a core
python experiments/heads.py --tasks.family=pos --prompts.shots=0 --prompts.labels=own
python experiments/heads.py --model meta-llama/Llama-3.2-1B --device cuda --top 1,5,10,20
"""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from patchboard.lab.language.command import LanguageExperiment, language_script
from patchboard.lab.language.head_counts import counts
from patchboard.spec import Study

# torch and matplotlib take seconds to load, which a refusal of the command line need not wait for


def flags(parser: ArgumentParser) -> None:
    about = "sizes of the function vectors, in heads (default: 1,2,4,8)"
    parser.add_argument("--top", type=counts, default=(1, 2, 4, 8), metavar="N,N", help=about)


def prepared(study: Study, top: tuple[int, ...]) -> Study:
    from patchboard.lab.language.head_vectors import suited

    return suited(study, top)


def examined(*arguments: Any, top: tuple[int, ...]) -> Path:
    from patchboard.lab.language.heads import examine

    return examine(*arguments, top=top)


def following(study: Study, top: tuple[int, ...]) -> list[Study]:
    from patchboard.lab.language.head_vectors import unranked_study

    return [unranked_study(study, top)]


def told(summary: dict[str, Any]) -> list[str]:
    from patchboard.lab.language.heads_findings import findings

    return findings(summary)


if __name__ == "__main__":
    spec = Path(__file__).parent / "specs" / "heads.yaml"
    description = (__doc__ or "").splitlines()[0]
    experiment = LanguageExperiment(description, spec, prepared, examined, told, flags, following=following)
    sys.exit(language_script(experiment))
