"""experiments/finetune.py as a user meets it: its table, a kill and another run, one line for what cannot be meant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file

from tests.scripts import ran

SMALL = (
    "--adapter.layers=1", "--adapter.rank=4", "--training.samples=8", "--training.shots=2", "--training.batch=4",
    "--training.checkpoint=1", "--training.learning_rate=0.05",
    "--study.tasks={family: bitwise, bits: 4, only: [AND, OR]}",
    "--study.prompts={shots: 2, queries: 6}", "--study.statistics={bootstrap: 100}",
    "--study.decodability={k: 3, prompts: 6, shots: [0, 2]}", "--study.interventions.added.layers=[1, 2]",
    "--study.interventions.added.vector={difference: [same_task, all_tasks], shots: 2, prompts: 6}",
)  # fmt: skip


def weights(out: Path) -> dict[str, dict]:
    return {which: load_file(out / "adapters" / which / "adapter_model.safetensors") for which in ("first", "last")}


@pytest.mark.slow  # some 20 s, of which the library's six runs take nearly all
def test_a_killed_experiment_ends_as_an_uninterrupted_one(tmp_path, llama_folder, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    asked = ("--model", llama_folder, *SMALL)
    status, told, error = ran("finetune.py", *asked, "--out", whole)
    assert status == 0 and str(whole / "report.html") in told, error

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for place in ("models._save_adapter", "experiment.run_study", "experiment.compare_conditions"):
        with monkeypatch.context() as patched:
            patched.setattr(f"patchboard.experiments.finetune.{place}", killed)
            status, _, error = ran("finetune.py", *asked, "--out", broken)
        assert status == 130 and "resumes" in error
    assert ran("finetune.py", *asked, "--out", broken)[:2] == (0, told.replace(str(whole), str(broken)))
    for one, other in zip(weights(whole).values(), weights(broken).values(), strict=True):
        assert all((one[name] == other[name]).all() for name in one)
    tables = [pl.read_parquet(out / "compared.parquet") for out in (whole, broken)]
    assert tables[0].equals(tables[1])

    table = tables[0]
    names = ["pretrained", "first 1 layer", "last 1 layer", "prompting"]
    assert table["condition"].unique(maintain_order=True).to_list() == names
    # accuracies and effects are those of the runs' own tables, which are computed from the outcomes in another way
    layer = json.loads((whole / "summary.json").read_text())["layer"]
    runs = [whole / "compared" / run for run in ("pretrained", "first", "last", "prompting")]
    own = [pl.read_parquet(run / "effects.parquet") for run in runs]
    for name, rows in zip(names, own, strict=True):
        for row in rows.filter(layer=layer, metric="accuracy", control="").iter_rows(named=True):
            mine = table.filter(condition=name, task=row["task"])
            found = [mine.filter(measure=measure)["value"].item() for measure in ("accuracy", "effect")]
            assert found == pytest.approx([row["clean"], row["effect"]]), (name, row["task"])
    prompts = pl.read_parquet(whole / "compared" / "prompting" / "prompts.parquet")
    assert prompts.filter(~pl.col("text").str.starts_with(pl.col("task") + "\n")).is_empty()

    before = {each: each.stat().st_mtime_ns for each in whole.rglob("*") if each.is_file()}
    assert ran("finetune.py", *asked, "--out", whole)[1] == told
    assert {each: each.stat().st_mtime_ns for each in whole.rglob("*") if each.is_file()} == before
    (whole / "adapters" / "mine.txt").write_text("the user's")
    assert ran("finetune.py", *asked, "--out", whole, "--fresh")[:2] == (0, told)
    again = {each for each in before if each.exists() and each.stat().st_mtime_ns == before[each]}
    assert not again, "--fresh starts over"
    assert (whole / "adapters" / "mine.txt").exists()


@pytest.fixture(scope="module")
def weightless(tmp_path_factory, llama_folder) -> Path:
    place = tmp_path_factory.mktemp("weightless") / "model"
    shutil.copytree(llama_folder, place, ignore=shutil.ignore_patterns("*.safetensors"))
    return place


def test_a_plan_reads_no_weights_and_writes_nothing(weightless, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, told, error = ran("finetune.py", "--model", weightless, *SMALL, "--plan", "--json")
    assert status == 0, error
    plan = json.loads(told)
    assert (plan["samples"], plan["steps of each training"]) == (8, 4)  # 2 batches, twice
    # rank 4, in one layer, on queries and outputs (48 -> 48), keys and values (48 -> 24), the MLP's (48 -> 96 and back)
    learned = 4 * (2 * (48 + 48) + 2 * (48 + 24) + 3 * (48 + 96))
    assert plan["last layers"] == f"3 (of 0 to 3), {learned:,} weights learn"
    assert not list(tmp_path.iterdir())


def test_a_study_may_be_the_path_of_a_spec(weightless, tmp_path):
    file = tmp_path / "mine.yaml"
    text = (
        "version: 1\nname: mine\nmodel: {name: other}\n"
        "tasks: {family: bitwise, bits: BITS, only: [AND, OR]}\nprompts: {shots: 1, queries: 7}\n"
        "interventions: {gone: {op: zero, layers: [1, 3]}}\n"
    )
    file.write_text(text.replace("BITS", "4"))
    asked = "--model", weightless, *SMALL[:6], f"--study={file}", "--plan", "--json"
    status, told, error = ran("finetune.py", *asked)
    assert status == 0, error
    plan = json.loads(told)
    assert plan["model"] == str(weightless) and "4 cells, 14 queries" in plan["measuring"]
    digest = plan["digest"]
    file.write_text(text.replace("BITS", "4").replace("queries: 7", "queries: 8"))
    assert json.loads(ran("finetune.py", *asked)[1])["digest"] != digest, "the contents are what is run, not the path"
    file.write_text(text.replace("BITS", "5"))
    status, _, error = ran("finetune.py", *asked)
    assert status == 2 and "is not in the tokenizer's vocabulary" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--adapter.layers=4", "adapter.layers: found 4 of the model's 4, first and last would be the same"),
        ("--adapter.rank=0", "--adapter.rank: found 0, expected at least 1"),
        ("--adapter.ranks=3", "--adapter.ranks: unknown key 'ranks'; did you mean 'rank'?"),
        ("--training.shots=200", "training.shots: task AND has 128 rows"),
        ("--stated=now", "stated: does not hold {task}"),
        ("--study.model={name: other}", "study.model: is no section of this experiment's study"),
        ("--study.prompts.seed={sweep: [0, 1]}", "study.prompts.seed: is swept"),
        ("--study.prompts.querys=3", "study.prompts.querys: unknown key 'querys'; did you mean 'queries'?"),
        ("--study.tasks.family=bitwize", "study.tasks.family: unknown task family 'bitwize'"),
        ("--study.interventions.added.layers=[9]", "study.interventions.added.layers[0]: there is no layer 9"),
        ("--study=nowhere.yaml", "study: 'nowhere.yaml' cannot be read (No such file or directory)"),
        ("--model=/nowhere/at/all", "model.name: there is no folder"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_nothing_is_written(argument, told, weightless, tmp_path):
    model = [] if argument.startswith("--model") else ["--model", weightless]
    status, output, error = ran("finetune.py", *model, argument, "--out", tmp_path / "run")
    assert status == 2 and not output and error.count("\n") == 1, error
    assert told in error
    assert not (tmp_path / "run").exists()
