"""`patchboard validate`: every file by its own kind, all reported; and files given to what does not take them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from patchboard.commands.main import main
from patchboard.errors import SpecError
from patchboard.experiment.settings import load_settings
from patchboard.experiments.finetune.settings import FinetuneSettings as Finetune
from patchboard.experiments.hijack.settings import HijackSettings
from patchboard.experiments.synthetic.settings import SyntheticSettings as Synthetic
from patchboard.spec.load import load_study
from patchboard.sweeps.file import load_sweep
from tests.conftest import ROOT

SHIPPED = sorted(
    os.path.relpath(file, ROOT)
    for pattern in ("experiments/specs", "sweeps", "sweeps/specs")
    for file in (ROOT / pattern).glob("*.yaml")
)
RUN, SWEEP = "experiments/specs/heads.yaml", "sweeps/rank.yaml"
LAB = {name: f"experiments/specs/{name}.yaml" for name in ("finetune", "hijack", "synthetic")}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_every_file_that_ships_is_valid_by_its_own_kind(capsys):
    assert main(["validate", *SHIPPED]) == 0
    captured = capsys.readouterr()
    lines = dict(line.split(": valid, ") for line in captured.out.splitlines())
    assert list(lines) == SHIPPED and not captured.err
    assert lines[SWEEP] == "a grid sweep of 6 runs" and lines[RUN].startswith("1 point, digest ")
    for name, file in LAB.items():
        assert lines[file].startswith(f"settings of experiments/{name}.py, digest ")


def test_all_files_are_reported_and_any_wrong_one_counts(tmp_path, capsys):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("prompts: {shots: -1}\n")
    assert main(["validate", RUN, str(wrong), LAB["hijack"], str(tmp_path / "none.yaml"), SWEEP]) == 2
    captured = capsys.readouterr()
    assert [line.split(":")[0] for line in captured.out.splitlines()] == [RUN, LAB["hijack"], SWEEP]
    first, second = captured.err.splitlines()
    assert first.startswith(f"error: {wrong}: prompts.shots: ")
    assert second.startswith(f"error: {tmp_path / 'none.yaml'}: there is no such file; ")


ADDED = "interventions: {a: {op: add, vector: {mean: same_task}, layers: all}}"
GRID = "program: experiments/patch_sweep.py\nmethod: grid\nparameters: "
PLACED = "interventions: {a: {op: zero, position: %s}}"
TAKEN = "interventions: {a: {op: %s, source: %s}}"
WRONG = {
    PLACED % "lst": "interventions.a.position: unknown position 'lst'; did you mean 'last'?",
    PLACED % "[last, demo_input.first]": "interventions.a.position[1]: unknown position 'demo_input'; did you ",
    TAKEN
    % (
        "resample",
        "{name: AND, position: S1}",
    ): "interventions.a.source.position: unknown position 'S1'; ",
    TAKEN % ("patch", "flip"): "interventions.a.source: unknown task 'flip'; choose one of AND, NAND, ",
    TAKEN % ("zero", "AND"): "interventions.a.source: op zero takes none; remove it, or write op: resample",
    "interventions: {a: {op: add, source: clean, vector: {mean: same_task}}}": "interventions.a.source: stands ",
    "prompts: {corrupted: flip}": "prompts.corrupted: the task family has no source 'flip'; leave ",
    "experiment: hijak\n": "experiment: found the text 'hijak', expected finetune or hijack or synthetic; did you mean",
    "experiment: finetune\nstudy: {metric: [kl]}\n": "study.metric: is no section of this experiment's study",
    f"experiment: finetune\nstudy: {{controls: [slef], {ADDED}}}\n": "study.controls[0]: unknown control 'slef'",
    "experiment: hijack\nlanguage: {vocab: few}\n": "language.vocab: ",
    "data: {inputs: 4}\ntraining: {}\n": "data.pairs: ",
    GRID + "{prompts.shots: {values: [0, -1]}}\n": "--prompts.shots: ",
    GRID + "{metrics: {values: [[klx]]}}\n": "unknown metric 'klx'",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_of_any_kind_is_one_line(tmp_path, capsys, text):
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    assert main(["validate", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and WRONG[text] in line


TAKES = {
    "run": (load_study, RUN, "a run's spec; give it to patchboard run, or experiments/patch_sweep.py"),
    "sweep": (load_sweep, SWEEP, "a W&B sweep; give it to patchboard sweep, or wandb sweep"),
    "finetune": (lambda file: load_settings(Finetune, file), LAB["finetune"], "give it to experiments/finetune.py"),
    "hijack": (lambda file: load_settings(HijackSettings, file), LAB["hijack"], "give it to experiments/hijack.py"),
    "synthetic": (lambda file: load_settings(Synthetic, file), LAB["synthetic"], "give it to experiments/synthetic.py"),
}  # fmt: skip


@pytest.mark.parametrize("taker", TAKES)
def test_a_file_given_to_another_is_told_what_takes_it(taker):
    read = TAKES[taker][0]
    for kind, (_, file, says) in TAKES.items():
        if kind == taker:
            assert read(Path(file))
            continue
        with pytest.raises(SpecError) as caught:
            read(Path(file))
        line = caught.value.one_line()
        what, remedy = says.split("; ") if "; " in says else ("the settings of ", says)
        assert line.startswith(f"{file}: holds {what}") and line.endswith(f"; {remedy}")
