"""Seconds predicted from a few passes: planted costs are found again, and a real plan's phases are all there."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import patchboard as pb
from patchboard.commands.main import main
from patchboard.execution import calibrate, timed_passes
from patchboard.execution.timed_passes import Pass, Seconds, seconds_of

SPEC = {
    "version": 1,
    "name": "short",
    "tasks": {"family": "bitwise", "only": ["AND", "OR"]},
    "prompts": {"shots": 2, "queries": 3},
    "interventions": {
        "positive": {"op": "patch", "vector": {"mean": "same_task", "shots": 2, "prompts": 4}, "layers": [1, 3]},
        "erased": {"op": "ablate", "vector": {"subspace": "tasks", "rank": 1, "shots": 2, "prompts": 4}, "layers": [2]},
    },
    "controls": ["random"],
    "metrics": ["logprob"],
    "decodability": {"k": 2, "prompts": 4, "shots": [0, 2]},
}


@pytest.fixture
def planted(monkeypatch):
    """Passes of unequal sizes that take 0.5 s each and 1e-6 s a FLOP of the processor, twice that by the clock; the
    very first takes 3 s more. Gives them, and the FLOPs of what was run."""
    ran: list[int] = []

    def timed(work, device) -> Seconds:
        flops = work()
        ran.append(flops)
        own = 0.5 + 1e-6 * flops + (3 if len(ran) == 1 else 0)
        return Seconds(2 * own, own)

    def of(size: int) -> Pass:
        return Pass(10, lambda count: size * count**2, lambda count: size * count**2)

    monkeypatch.setattr(timed_passes, "timed", timed)
    return [of(size) for size in (1000, 3000, 7000, 2000, 5000)], ran


@pytest.mark.parametrize("first", [True, False])
def test_planted_costs_are_found_again(planted, first):
    passes, ran = planted
    found = seconds_of(passes, 4.0, torch.device("cpu"), first)
    whole = sum(0.5 + 1e-6 * one.flops(10) for one in passes) + 3 * first
    assert found.processor == pytest.approx(whole) and found.clock == pytest.approx(2 * whole)
    assert max(ran) > 1000 and sum(0.5 + 1e-6 * flops for flops in ran[2:]) < 4.0 + 0.6


def test_a_single_size_is_scaled_by_its_flops(planted):
    passes, _ = planted
    one = Pass(1, passes[0].flops, passes[0].run)
    found = seconds_of([one] * 6, 4.0, torch.device("cpu"), first=False)
    assert found.processor == pytest.approx(6 * 0.501)


def test_a_real_plan_is_predicted_only_where_asked(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "_SECONDS", 0.01)
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(SPEC))
    names = ("predicted_seconds", "predicted_processor_seconds")
    assert main(["plan", str(spec), "--json", "--calibrate"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["models"]
    assert all(set(entry[name]) == {"fit", "decodability", "packs"} for name in names)
    assert all(seconds > 0 for name in names for seconds in entry[name].values())
    plain = pb.load(SPEC).plan().as_dict()["models"][0]
    assert plain == {key: value for key, value in entry.items() if key not in names}


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("run", "--calibrate"), "error: --calibrate: is part of a plan"),
        (
            ("plan", "--calibrate", "--remote", "http://127.0.0.1:1"),
            "error: --calibrate: times a model in this",
        ),
    ],
)
def test_what_cannot_be_timed_is_refused(capsys, tmp_path, flags, line):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(SPEC))
    command, *rest = flags
    assert main([command, str(spec), *rest]) == 2
    assert capsys.readouterr().err.startswith(line)


def test_weights_that_are_not_there_are_one_line(capsys, tmp_path, llama_folder):
    folder = tmp_path / "model"
    shutil.copytree(llama_folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(SPEC | {"tasks": SPEC["tasks"] | {"bits": 4}, "model": {"name": str(folder)}}))
    assert main(["plan", str(spec)]) == 0  # a plan itself needs none
    capsys.readouterr()
    assert main(["plan", str(spec), "--calibrate"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: model.name: ") and "no weights" in line and line.count("\n") == 1
