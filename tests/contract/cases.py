"""A user's file of counterfactual cases in the embedded model's words."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

NAMES = ("baker", "teacher", "child", "river")
PLACES = ("garden", "mountain", "boat", "letter")
TEMPLATE = {"input": "{input}", "output": " {output}"}


def write_cases(file: Path, longer: bool = False) -> Path:
    """Sentences in which two are named and one of them again; the other one is asked for. Sources: `flip`, the two
    exchanged; `third`, where another one is named again. longer: ``flip`` says two words where the base says one."""
    lines = []
    for (io, subject, other), place in itertools.product(itertools.permutations(NAMES, 3), PLACES):

        def sentence(a: str, b: str, again: str, place: str = place) -> str:
            return f"the {{IO: {a}}} with the {{S1: {b}}} near the {place} from the {{S2: {again}}} helped the"

        case = {
            "base": sentence(io, subject, subject),
            "answer": io,
            "foils": subject,
            "source_flip": sentence(subject, f"old {io}" if longer else io, io),
            "source_flip_answer": subject,
            "source_third": sentence(io, subject, other),
        }
        lines.append(json.dumps(case))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def case_tree(file: Path, **changes: Any) -> dict[str, Any]:
    """What a spec on the file differs in from the tiny one."""
    return {
        "tasks": {"family": "counterfactual", "files": [str(file)], "include_null": False},
        "prompts": {"shots": 0, "queries": 6, "template": TEMPLATE},
        "metrics": ["logprob", "logit_difference"],
        "controls": ["self"],
        "decodability": None,
        **changes,
    }
