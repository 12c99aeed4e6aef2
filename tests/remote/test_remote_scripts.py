"""The experiments on language models through a host: of a remote run they make what they make of a local one."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.remote.runs import as_client, packed_as_there
from tests.scripts import ran

SMALL = (
    "--tasks.only=[AND, OR]", "--tasks.bits=4", "--prompts.shots=1", "--prompts.seed=0", "--prompts.queries=4",
    "--interventions.positive.vector={mean: same_task, shots: 1, prompts: 3}",
    "--interventions.negative.vector={mean: null_task, shots: 1, prompts: 3}",
    "--decodability={k: 2, prompts: 4, shots: [1]}", "--statistics.bootstrap=100", "--wandb", "off",
)  # fmt: skip


@pytest.mark.slow
def test_the_bars_of_a_hosted_model_are_those_of_a_local_one(server, llama_snapshot, tmp_path):
    def bars(model: str, out: Path, *how: str) -> dict[str, pl.DataFrame]:
        with as_client(llama_snapshot, server):
            status, told, error = ran("intervention_bars.py", "--model", model, *SMALL, "--out", str(out), *how)
        assert status == 0, error
        assert str(out / "experiment" / "report.html") in told
        return {name: pl.read_parquet(out / "experiment" / name) for name in ("bars.parquet", "matrix.parquet")}

    with packed_as_there():
        here = bars(str(llama_snapshot.folder), tmp_path / "here")
    there = bars(llama_snapshot.repo, tmp_path / "there", "--remote")
    assert server.log("request"), "the host was asked"
    for name in here:
        assert here[name].equals(there[name]), name


def test_a_remote_plan_of_a_script_needs_no_host(server, llama_snapshot, tmp_path):
    with as_client(llama_snapshot, server):
        status, told, error = ran("intervention_bars.py", "--model", llama_snapshot.repo, *SMALL, "--remote", "--plan")
    assert status == 0, error
    assert "jobs" in told and not server.log("request")


def test_states_stay_where_they_are(tmp_path):
    status, told, error = ran("decodability.py", "--remote", "--out", str(tmp_path / "run"))
    assert (status, told) == (2, "") and error.startswith("error: --remote: cannot be") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
