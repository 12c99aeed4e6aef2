"""Where weights go: copies or one over all devices, and what is refused, before anything is written."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

import patchboard as pb
from patchboard.engine import device as devices
from patchboard.engine.load import open_model
from patchboard.engine.memory import budget_for
from patchboard.engine.weight_bytes import weight_bytes
from patchboard.execution import placement as placements
from patchboard.execution.claims import Claims
from patchboard.execution.options import Options
from patchboard.execution.placement import Placement, placement_of
from patchboard.plan.pack_cost import activation_floats
from patchboard.plan.packs import default_budget
from patchboard.spec.sections import ModelSection
from tests.contract.tiny import VECTOR, one_error, run, tiny_tree

GPUS = 3


@pytest.fixture
def gpus(monkeypatch):
    """gpus(*free): this machine has so many, with so many bytes free."""

    def set_to(*free: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (free[torch.device("cuda", place).index], 0)
                            if isinstance(place, int) else (free[place.index], 0))  # fmt: skip

    return set_to


@pytest.fixture
def section(llama_folder) -> ModelSection:
    return ModelSection(name=str(llama_folder))


def placed(section: ModelSection, **options) -> Placement:
    return placement_of(section, open_model(section)[1], Options(**options))


def needed_by(section: ModelSection) -> int:
    facts = open_model(section)[1]
    return weight_bytes(section, on_cpu=False) + 4 * activation_floats(facts, default_budget(facts))


def test_weights_are_counted_as_they_will_be_held(section, llama_folder):
    held = dict(AutoModelForCausalLM.from_pretrained(llama_folder, dtype=torch.float32).named_parameters())
    numbers = sum(p.numel() for p in held.values())
    linear = sum(p.numel() for name, p in held.items() if ".layers." in name and p.ndim == 2)
    assert weight_bytes(section, on_cpu=True) == 4 * numbers
    assert weight_bytes(section.model_copy(update={"dtype": "bfloat16"}), on_cpu=True) == 2 * numbers
    assert weight_bytes(section.model_copy(update={"quantization": "8bit"}), on_cpu=False) == 4 * numbers - 3 * linear


def test_a_copy_on_each_gpu_where_one_holds_it(section, gpus):
    needed = needed_by(section)
    gpus(needed, needed, needed)
    found = placed(section, devices=GPUS)
    assert (found.own, found.others, found.note) == ("cuda:0", ("cuda:1", "cuda:2"), "")
    assert found.names(torch.device("cuda", 0)) == ["cuda:0", "cuda:1", "cuda:2"]
    assert placed(section, devices=2).others == ("cuda:1",)


def test_one_copy_over_all_where_the_fullest_gpu_is_too_small(section, gpus):
    needed = needed_by(section)
    gpus(needed, needed - 1, 10 * needed)
    found = placed(section, devices=2)
    assert (found.own, found.others) == (("cuda:0", "cuda:1"), ()) and "over cuda:0, cuda:1 and, where" in found.note
    assert found.names(torch.device("cuda", 0)) == ["cuda:0", "cuda:1"]
    assert placed(section, devices=1).own == "cuda:0" and placed(section).own == "auto"
    assert devices.device_map_for(found.own) == "auto"
    room = devices.max_memory_for(found.own)
    assert room is not None and set(room) == {0, 1, "cpu"} and room[1] == int(0.9 * (needed - 1))
    gpus(needed - 1, needed)
    assert placed(section, devices=1).own == ("cuda:0",)
    assert devices.device_map_for("cuda:1") == {"": "cuda:1"} and devices.max_memory_for("cuda:1") is None


def test_processes_of_the_cpu_share_its_memory(section, monkeypatch):
    weights, facts = weight_bytes(section, on_cpu=True), open_model(section)[1]
    cpu, one = (torch.device("cpu"),), 2 * 4 * activation_floats(facts, default_budget(facts))
    for free, whole in ((2 * one + weights, True), (2 * one + weights - 1, False)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        assert (budget_for(facts, cpu, 4, others=1, weights=weights) == default_budget(facts)) is whole
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=3 * weights))
    assert placed(section, devices=3, device="cpu").others == ("cpu", "cpu")
    with pytest.raises(pb.SpecError, match=r"--devices: .* takes 4 x .* GB of weights, and .* GB of memory are free"):
        placed(section, devices=4, device="cpu")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--devices", "0"], "--devices: found 0, expected a whole number ≥ 1"),
        (["--devices", "2", "--remote", "http://127.0.0.1:9"], "--devices: is of this machine, and the run is on a"),
        (["--devices", "100000", "--device", "cpu"], "--devices: found 100000 processes of the CPU, more than"),
        (["--devices", "two"], "command line: argument --devices: invalid int value: 'two'"),
    ],
)
def test_numbers_that_mean_nothing_are_one_line(flags, line, llama_folder, tmp_path, capsys):
    assert run(tiny_tree(llama_folder), tmp_path / "run", *flags) == 2
    assert one_error(capsys).startswith(f"error: {line}") and not (tmp_path / "run").exists()


def test_more_gpus_than_there_are_is_one_line(llama_folder, tmp_path, capsys, gpus):
    gpus(10**12, 10**12)
    assert run(tiny_tree(llama_folder), tmp_path / "run", "--devices", "3") == 2
    line = one_error(capsys)
    assert line == "error: --devices: found 3, and there are 2 GPUs; give at most 2, or --device cpu"
    assert not (tmp_path / "run").exists()


def test_too_little_memory_costs_no_results(llama_folder, tmp_path, capsys, monkeypatch):
    kept = tmp_path / "run" / "manifest.json"
    kept.parent.mkdir()
    kept.write_text('{"digest": "d", "version": 1}')
    monkeypatch.setattr(placements.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    assert run(tiny_tree(llama_folder), tmp_path / "run", "--devices", "2", "--fresh") == 2
    assert one_error(capsys).startswith("error: --devices: ") and kept.exists()


def test_pieces_of_this_process_alone_are_one_line(llama_folder, tmp_path):
    @pb.register.op("mine")
    class Mine:
        """h + v."""

        operand, neutral = "vector", 0.0

        @staticmethod
        def apply(h, operand, strength):
            return h + strength * operand

    tree = tiny_tree(llama_folder, interventions={"p": {"op": "mine", "vector": VECTOR, "layers": [1]}})
    with pytest.raises(pb.SpecError, match="--devices: op 'mine' is registered in this process alone; put it into"):
        pb.run(tree, out=tmp_path / "run", devices=2)
    assert not (tmp_path / "run").exists()


def test_a_piece_of_work_is_taken_once(tmp_path):
    first, second = Claims(tmp_path), Claims(tmp_path)
    names = [f"parts/p{number}.parquet" for number in range(4)]
    taken = [first.take(names[0]), second.take(names[0]), second.take(names[1]), first.take(names[1])]
    assert taken == [True, False, True, False]
    assert first.take(names[2]) and not first.take(names[2])
