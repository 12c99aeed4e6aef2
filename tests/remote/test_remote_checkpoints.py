"""Several models in one remote run, and revisions that a host does not have."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest

from patchboard.experiment.revisions import listed_of
from tests.conftest import ROOT
from tests.remote.conftest import Snapshot
from tests.remote.runs import as_client
from tests.scripts import ran

SMALL = (
    "--tasks.only=[AND, OR]", "--prompts.shots=1", "--prompts.queries=4", "--statistics.bootstrap=100",
    "--interventions.added.vector={difference: [same_task, all_tasks], shots: 1, prompts: 3, only: all}",
    "--controls=[self]", "--decodability={k: 2, prompts: 4, shots: [1]}", "--wandb", "off",
)  # fmt: skip


@pytest.fixture
def twice(llama_snapshot, tmp_path) -> Snapshot:
    """The served model under two spellings of its name, and with two more revisions, in the Hub's cache."""
    hub = tmp_path / "home" / "hub"
    hub.mkdir(parents=True)
    (own,) = (llama_snapshot.home / "hub").iterdir()
    for name in (own.name, own.name.lower()):
        (hub / name / "refs").mkdir(parents=True)
        (hub / name / "blobs").mkdir()
        (hub / name / "snapshots").symlink_to(own / "snapshots")
        for ref in ("main", "step1", "step20"):
            (hub / name / "refs" / ref).write_text((own / "refs" / "main").read_text())
    listed_of.cache_clear()
    return replace(llama_snapshot, home=tmp_path / "home")


@pytest.mark.slow
def test_two_models_are_computed_by_a_host_as_here(server, twice, tmp_path):
    names = f"--model.name={{sweep: [{twice.repo}, {twice.repo.lower()}]}}"
    there, here = tmp_path / "there", tmp_path / "here"
    with as_client(twice, server):
        status, _, error = ran("scaling.py", names, *SMALL, "--out", str(there), "--remote")
    assert status == 0, error
    from patchboard.commands.main import main

    spec = ROOT / "experiments" / "specs" / "scaling.yaml"
    assert main(["run", str(spec), "--model", str(twice.folder), *SMALL, "--out", str(here), "--quiet"]) == 0
    table = pl.read_parquet(there / "experiment" / "sized.parquet")
    assert table["model"].unique().to_list() != [twice.repo] and table.height == 2 * 3
    (local,) = json.loads((here / "manifest.json").read_text())["models"]
    for hosted in json.loads((there / "manifest.json").read_text())["models"]:
        assert {hosted[name] for name in ("parameters", "embedding_parameters")} == {
            local[name] for name in ("parameters", "embedding_parameters")
        }
    point = json.loads((here / "summary.json").read_text())["interventions"]["added"]
    for name in (twice.repo, twice.repo.lower()):
        (effect,) = table.filter(model=name, measure="added")["value"]
        assert effect == point["effect"], "to the bit, as one run here"


def test_a_revision_that_is_not_served_is_one_line(server, twice, tmp_path):
    asked = ("--model", twice.repo, "--revisions", "step*", *SMALL, "--out", str(tmp_path / "run"), "--remote")
    with as_client(twice, server):
        status, told, error = ran("checkpoints.py", *asked)
    assert (status, told) == (2, "") and error.count("\n") == 1, error
    assert "model.revision: " in error and "at main, not step1; use main" in error
    assert not server.log("request")


def test_the_plan_of_several_revisions_needs_no_host(server, twice):
    asked = ("--model", twice.repo, "--revisions", "step*", *SMALL, "--remote", "--plan", "--json")
    with as_client(twice, server):
        status, told, error = ran("checkpoints.py", *asked)
    assert status == 0, error
    assert [model["revision"] for model in json.loads(told)["models"]] == ["step1", "step20"]
