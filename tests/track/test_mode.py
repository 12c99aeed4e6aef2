"""Which W&B a run gets, by flag and environment; and that `off` costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from patchboard.errors import SpecError
from patchboard.track.mode import CHOICES, sweep_of, wanted
from tests.conftest import ROOT
from tests.track.client import environment, light_spec, patchboard

ASKED = [
    ("auto", {}, "auto"),
    ("auto", {"WANDB_MODE": "offline"}, "offline"),
    ("auto", {"WANDB_MODE": "dryrun"}, "offline"),
    ("auto", {"WANDB_MODE": "Online"}, "online"),
    ("auto", {"WANDB_MODE": "disabled"}, "off"),
    ("auto", {"WANDB_MODE": ""}, "auto"),
    ("auto", {"WANDB_DISABLED": "true", "WANDB_MODE": "online"}, "off"),
    ("auto", {"WANDB_DISABLED": "false"}, "auto"),
    ("off", {"WANDB_MODE": "online"}, "off"),
    ("online", {"WANDB_MODE": "disabled"}, "online"),
    ("offline", {"WANDB_SWEEP_ID": "s"}, "offline"),
]


@pytest.mark.parametrize(("flag", "given", "want"), ASKED)
def test_the_flag_then_the_environment(flag, given, want):
    assert wanted(flag, given) == want


def test_a_mode_that_wandb_does_not_have():
    with pytest.raises(SpecError, match="WANDB_MODE: found 'onlne', expected online, offline or disabled; set one"):
        wanted("auto", {"WANDB_MODE": "onlne"})


def test_an_empty_sweep_is_none():
    assert sweep_of({"WANDB_SWEEP_ID": ""}) is None and sweep_of({"WANDB_SWEEP_ID": "s"}) == "s"


def test_the_flags_of_run_are_these(capsys):
    from patchboard.commands.main import main

    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert f"--wandb {{{','.join(CHOICES)}}}" in capsys.readouterr().out


@pytest.mark.slow
def test_off_imports_nothing_of_wandb_and_writes_nothing_of_it(tmp_path):
    code = (
        "import sys; from patchboard.commands.main import main; status = main(sys.argv[1:]);"
        "print(status, sorted(m for m in sys.modules if m.split('.')[0] in ('wandb', 'optuna')))"
    )
    arguments = ["run", str(light_spec(tmp_path)), "--out", str(tmp_path / "run"), "--wandb", "off", "--quiet"]
    env = environment(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0 []", "")
    assert not (tmp_path / "run" / "wandb").exists()


@pytest.mark.slow
def test_online_without_a_key_is_one_line_and_writes_nothing(tmp_path):
    run = tmp_path / "run"
    done = patchboard("run", str(light_spec(tmp_path)), "--out", str(run), "--wandb", "online",
                      cwd=tmp_path, env=environment(tmp_path))  # fmt: skip
    line = "error: --wandb: online needs a key and there is none; run `wandb login`, or set WANDB_API_KEY\n"
    assert (done.returncode, done.stderr, done.stdout) == (2, line, "")
    assert not run.exists()


def test_track_says_what_it_cannot_mirror(tmp_path, capsys, monkeypatch):
    from patchboard.commands.main import main

    monkeypatch.setenv("WANDB_MODE", "disabled")
    off = "error: --wandb: W&B is off (by WANDB_MODE or WANDB_DISABLED); give --wandb online or offline\n"
    none = f"error: {tmp_path}: is not the folder of a finished run; run its spec first\n"
    for more, line in (((), off), (("--wandb", "offline"), none)):
        assert main(["track", str(tmp_path), *more]) == 2
        assert capsys.readouterr().err == line
