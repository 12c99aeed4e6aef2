"""Scripts of experiments/ in this process, which has torch loaded already."""

from __future__ import annotations

import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import pytest

from tests.conftest import ROOT


def ran(script: str, *arguments: object) -> tuple[int, str, str]:
    """(status, standard output, standard error) of ``python experiments/SCRIPT ARGUMENTS``."""
    told, complained = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(told), redirect_stderr(complained):
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(ROOT / "experiments" / script), run_name="__main__")
    return int(left.value.code or 0), told.getvalue(), complained.getvalue()
