"""An emitted script with REMOTE = True: stock nnsight's own requests, against the loopback server."""

from __future__ import annotations

import subprocess
import sys

import pytest

from patchboard.commands.main import main
from tests.contract.tiny import write
from tests.remote.conftest import REPO, environment_for
from tests.remote.runs import as_client, tree_of

# the Hub, which nnsight asks how a model's name is spelled, is not there in tests
START = f"""
import runpy
from nnsight.modeling.huggingface import _ID_CACHE
_ID_CACHE[{REPO!r}] = {REPO!r}
runpy.run_path("s.py", run_name="__main__")
"""


@pytest.mark.slow
def test_a_script_asks_the_host_and_has_the_runs_values(server, llama_snapshot, tmp_path):
    tree = tree_of(llama_snapshot)
    tree["interventions"] = {name: part for name, part in tree["interventions"].items() if part["op"] != "knock_out"}
    spec, run, script = write(tree, tmp_path / "spec.yaml"), tmp_path / "run", tmp_path / "s.py"
    with as_client(llama_snapshot, server):
        assert main(["run", spec, "--out", str(run), "--wandb", "off", "--remote", "--quiet"]) == 0
        assert main(["emit", spec, "--run", str(run), "--queries", "1", "--out", str(script)]) == 0
    script.write_text(script.read_text().replace("REMOTE = False", "REMOTE = True"))
    server.clear()
    environment = environment_for(server, llama_snapshot)
    environment.pop("PYTHONPATH")
    done = subprocess.run(
        [sys.executable, "-c", START], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-1500:]
    assert len(server.log("request")) > 10, "a job a pass"
    last = done.stdout.splitlines()[-1]
    assert float(last.split(": ")[1].split(",")[0]) < 1e-5
