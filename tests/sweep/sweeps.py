"""Sweep files on a tiny spec, and sweeps that are stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

STRENGTH, SHOTS = "interventions.p.strength", "prompts.shots"
METRIC = {"name": "best/effect/p/accuracy", "goal": "maximize"}
STOPPED = "interrupted: finished parts are kept, the same command resumes\n"


def sweep_file(place: Path, name: str, parameters: dict[str, Any], **more: Any) -> str:
    command = ["${env}", "${interpreter}", "${program}", str(place / "tiny.yaml"), "--wandb", "auto", "${args}"]
    program = str(ROOT / "experiments" / "patch_sweep.py")
    tree = {
        "program": program,
        "method": "grid",
        "metric": METRIC,
        "parameters": parameters,
        "command": command,
        **more,
    }
    path = place / f"{name}.yaml"
    path.write_text(json.dumps(tree | more))
    return str(path)


def two_at_work(out: Path) -> Callable[[], bool]:
    """Whether two points of a sweep are at work, and no longer their interpreters alone."""

    def at_work() -> bool:
        if len(list(out.glob("logs/*.log"))) < 2:
            return False
        time.sleep(0.3)
        return True

    return at_work


def interrupted(command: Sequence[str], begun: Callable[[], bool]) -> str:
    """What ``patchboard COMMAND`` says on standard error where Ctrl-C stops it once it has begun."""
    process = subprocess.Popen([sys.executable, "-m", "patchboard", *command], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not begun():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    return said
