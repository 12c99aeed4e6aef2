"""The head experiment on a host: both of its runs go there, and what is made of them is what is made of local ones."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from patchboard.experiment.command import StudyScript
from patchboard.experiments.heads.experiment import Heads
from tests.conftest import ROOT
from tests.contract.tiny import manifest_of
from tests.remote.runs import as_client, packed_as_there, table

SMALL = (
    "--tasks.bits=4", "--tasks.only=[AND, XOR]", "--statistics.bootstrap=100", "--prompts.shots=2",
    "--prompts.queries=4", "--interventions.heads.vector.prompts=3", "--interventions.heads.vector.shots=2",
    "--interventions.heads.layers=[1, 3]", "--metrics=[probability]", "--wandb=off", "--quiet",
)  # fmt: skip


@pytest.mark.slow  # two runs here and two there
def test_both_runs_go_to_the_host(server, llama_snapshot, tmp_path):
    def told(out: Path, *arguments: str) -> tuple[int, str]:
        script = StudyScript("heads", ROOT / "experiments" / "specs" / "heads.yaml", lambda: Heads((1, 2)))
        errors = StringIO()
        with redirect_stdout(StringIO()), redirect_stderr(errors):
            status = script.main([*SMALL, "--out", str(out), *arguments])
        return status, errors.getvalue()

    with as_client(llama_snapshot, server):
        assert told(tmp_path / "there", "--model", llama_snapshot.repo, "--remote") == (0, "")
        sent = len(server.log("request"))
        server.stop()
        assert told(tmp_path / "there", "--model", llama_snapshot.repo, "--remote") == (0, "")
        server.start()
    with packed_as_there():
        assert told(tmp_path / "here", "--model", str(llama_snapshot.folder)) == (0, "")
    for folder in (tmp_path / "there", tmp_path / "there" / "experiment" / "experiment"):
        assert manifest_of(folder)["where"] == server.url
    assert sent >= 4, "a survey and cells of each run"
    for name in ("heads.parquet", "vectors.parquet"):
        assert table(tmp_path / "there" / "experiment", name).equals(
            table(tmp_path / "here" / "experiment", name), null_equal=True
        ), name
