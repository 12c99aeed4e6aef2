"""The concept stated in prompts of a hosted model: the same table as of a local one."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.remote.runs import as_client
from tests.scripts import ran

SMALL = (
    "--tasks.only=[AND, OR]", "--prompts.shots=1", "--prompts.queries=4", "--statistics.bootstrap=100",
    "--interventions.added.vector={difference: [same_task, all_tasks], shots: 1, prompts: 3}",
    "--decodability={k: 2, prompts: 4, shots: [1]}", "--wandb", "off",
)  # fmt: skip


@pytest.mark.slow
def test_prompting_of_a_hosted_model_is_that_of_a_local_one(server, llama_snapshot, tmp_path):
    def table(model: str, out: Path, *how: str) -> pl.DataFrame:
        with as_client(llama_snapshot, server):
            status, _, error = ran("prompting.py", "--model", model, *SMALL, "--out", str(out), *how)
        assert status == 0, error
        return pl.read_parquet(out / "experiment" / "compared.parquet")

    here = table(str(llama_snapshot.folder), tmp_path / "here")
    there = table(llama_snapshot.repo, tmp_path / "there", "--remote")
    assert server.log("request"), "the host was asked"
    assert here.equals(there) and here["condition"].n_unique() == 2
