"""Scripts of experiments/ in this process, which has torch loaded already."""

from __future__ import annotations

import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from tests.conftest import ROOT

SMALL_STUDY = (
    "--tasks.only=[AND, OR, XOR]", "--statistics.bootstrap=200", "--prompts.queries=6", "--prompts.shots=1",
    "--decodability={k: 3, prompts: 8, shots: [0, 2]}", "--metrics=[logprob, accuracy]",
    "--interventions.added.vector={difference: [same_task, all_tasks], shots: 1, prompts: 4, only: all}",
    "--wandb", "off",
)  # fmt: skip
"""Of scripts that run one study on several models."""


def ran(script: str, *arguments: object) -> tuple[int, str, str]:
    """(status, standard output, standard error) of ``python experiments/SCRIPT ARGUMENTS``."""
    told, complained = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(told), redirect_stderr(complained):
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(ROOT / "experiments" / script), run_name="__main__")
    return int(left.value.code or 0), told.getvalue(), complained.getvalue()


def must_refuse(left: tuple[int, str, str], told: str, out: Path) -> None:
    """What ``ran`` gives is a refusal in one line that says ``told``, and nothing is written in ``out``."""
    status, output, error = left
    assert status == 2 and not output and error.count("\n") == 1
    assert told in error
    assert not out.exists()
