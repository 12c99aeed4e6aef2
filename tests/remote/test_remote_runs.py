"""A remote run is the local run, to the bit; and the command that it is made for works as it stands."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys

import polars as pl
import pytest

from tests.conftest import ROOT
from tests.contract.tiny import manifest_of
from tests.remote.runs import assert_close_tables, assert_same_tables, run_here, run_remotely, table, tree_of

LITERAL = "python experiments/patch_sweep.py --model meta-llama/Llama-3.1-70B --remote"


@pytest.mark.slow
def test_the_command_of_the_readme(server, llama_snapshot, client_env, tmp_path):
    """As it stands, on the script's own spec."""
    assert LITERAL in (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    words = shlex.split(LITERAL)
    how = {"cwd": tmp_path, "env": {**client_env, "WANDB_MODE": "disabled"}, "timeout": 170}
    found = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, **how)
    assert found.returncode == 0, found.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"report: {folder.relative_to(tmp_path)}/report.html" in found.stdout
    assert manifest_of(folder)["where"] == server.url and {"survey", "cd-1", "cells-1"} <= {
        job["name"] for job in manifest_of(folder)["models"][0]["jobs"]
    }
    assert len(table(folder, "effects.parquet")) > 1000


@pytest.fixture(scope="module")
def local_run(llama_snapshot, tmp_path_factory):
    return run_here(llama_snapshot, tmp_path_factory.mktemp("local") / "run")


@pytest.mark.parametrize(
    "options", [(), pytest.param(("--separate",), marks=pytest.mark.slow)], ids=["one process", "separate"]
)
def test_remote_equals_local_to_the_bit(servers, llama_snapshot, local_run, tmp_path, options):
    """Every op, heads, other prompts' states; also where the block runs in another process than the model. As runs are
    made here without being told, in other packs and without masks, but for rounding."""
    status, _, err = run_remotely(llama_snapshot, servers(*options), tmp_path / "run", "--quiet")
    assert (status, err) == (0, "")
    assert_same_tables(tmp_path / "run", local_run)
    assert_close_tables(tmp_path / "run", run_here(llama_snapshot, tmp_path / "here", as_there=False))
    here, there = manifest_of(local_run), manifest_of(tmp_path / "run")
    assert there["noise_floor"] == here["noise_floor"] and there["engine"].values()
    assert not (tmp_path / "run" / "vectors.safetensors").exists()


@pytest.mark.slow
def test_shuffled_answers_are_the_same_there(server, llama_snapshot, tmp_path):
    """Jobs that hold cells of the control alone fit its twin with own answers too, which says what is right."""
    vector = {"shots": 3, "prompts": 5}
    sections = {
        "m": {"op": "patch", "vector": {"mean": "same_task", **vector}, "layers": "all"},
        "e": {"op": "ablate", "vector": {"subspace": "tasks", "method": "leace", **vector}, "layers": [1]},
        "f": {
            "op": "add",
            "vector": {"function_vector": "same_task", "heads": [[3, 1], [0, 2]], **vector},
            "layers": [2],
        },
    }
    changes = {"interventions": sections, "controls": ["shuffled", "random"], "decodability": None}
    status, _, err = run_remotely(llama_snapshot, server, tmp_path / "run", "--job-tokens", "300", "--quiet", **changes)
    assert (status, err) == (0, "") and len(server.log("request")) > 2
    here = run_here(llama_snapshot, tmp_path / "here", **changes)
    assert_same_tables(tmp_path / "run", here)
    assert "shuffled" in table(here, "effects.parquet")["control"].to_list()


@pytest.mark.slow
def test_small_jobs_give_the_same(server, llama_snapshot, local_run, tmp_path):
    """Each of many jobs fits its own vectors again."""
    status, _, err = run_remotely(llama_snapshot, server, tmp_path / "run", "--job-tokens", "150", "--vectors")
    assert status == 0, err
    assert len(server.log("request")) > 4
    assert_same_tables(tmp_path / "run", local_run)
    from patchboard.store.vectors import load_vectors

    there = load_vectors(tmp_path / "run" / "vectors.safetensors", manifest_of(tmp_path / "run")["digest"])
    here = load_vectors(local_run / "vectors.safetensors", manifest_of(local_run)["digest"])
    assert there.keys() == here.keys()
    assert all((getattr(there[k], "right", there[k]) == getattr(here[k], "right", here[k])).all() for k in here)


@pytest.mark.slow
def test_several_right_answers_remotely(server, llama_snapshot, tmp_path):
    """Answers of several tokens and of several lengths, with further ones of each."""
    words = "dog cat river cold mountain cafe".split()
    for task, shift in (("one", 1), ("two", 2)):
        rows = {w: [words[(i + shift * n) % 6] + "s" * n for n in range(1, 2 + i % 3)] for i, w in enumerate(words * 2)}
        rows |= {w.upper(): [w, w.title()] for w in words}
        (tmp_path / f"{task}.json").write_text(json.dumps(rows))
    tasks = {"family": "pairs", "files": [str(tmp_path / "one.json"), str(tmp_path / "two.json")]}
    status, _, err = run_remotely(llama_snapshot, server, tmp_path / "run", "--quiet", tasks=tasks)
    assert (status, err) == (0, "")
    here = run_here(llama_snapshot, tmp_path / "here", tasks=tasks)
    assert_same_tables(tmp_path / "run", here)
    assert len(table(here, "prompts.parquet").filter(pl.col("right_answers").list.len() > 2))


@pytest.mark.slow
def test_autocast_reaches_no_statistic(servers, llama_snapshot, tmp_path):
    """In bfloat16 under autocast: what is computed with the states is what a local bfloat16 run computes."""
    autocast = servers("--dtype", "bfloat16", "--autocast")
    status, _, err = run_remotely(llama_snapshot, autocast, tmp_path / "run")
    assert status == 0, err
    here = run_here(llama_snapshot, tmp_path / "here", "--dtype", "bfloat16")
    (entry,) = manifest_of(tmp_path / "run")["models"]
    assert (entry["dtype"], entry["autocast"]) == ("bfloat16", True)
    there, local = table(tmp_path / "run", "outcomes.parquet"), table(here, "outcomes.parquet")
    # the model's own norms round elsewhere under autocast; a vector or projection in bfloat16 would be far off
    assert (there["patched"] - local["patched"]).abs().max() < 0.2
    assert (there["patched"] == local["patched"]).mean() > 0.5


@pytest.mark.slow
def test_manifest_says_where_it_ran(server, llama_snapshot, tmp_path):
    server.fault("old_versions", times=-1, packages={"nnsight": "0.8.99"})
    status, _, err = run_remotely(llama_snapshot, server, tmp_path / "run")
    assert status == 0
    manifest = manifest_of(tmp_path / "run")
    assert manifest["where"] == server.url and manifest["host"]["versions"]["nnsight"] == "0.8.99"
    assert [note for note in manifest["fallbacks"] if "nnsight 0.8.99, here is" in note]
    (entry,) = manifest["models"]
    assert entry["dtype"] == "float32" and entry["host"] == server.url
    sent = server.log("request")
    assert sorted(job["id"] for job in entry["jobs"]) == sorted(one["id"] for one in sent)
    # each job has its lines: sent, the host's own news, done
    for job in entry["jobs"]:
        lines = [line for line in err.splitlines() if line.startswith(f"job {job['name']} ")]
        assert any("sent as" in line for line in lines) and "done in" in lines[-1]


@pytest.mark.slow
def test_position_in_the_queue_is_told(server, llama_snapshot, tmp_path):
    server.fault("slow", times=-1, seconds=1)
    status, _, err = run_remotely(llama_snapshot, server, tmp_path / "run", "--job-tokens", "300")
    assert status == 0
    assert "queued" in err.lower() and "position" in err.lower() and "running" in err.lower()


@pytest.mark.slow
def test_plan_tells_the_bytes(server, llama_snapshot, client_env, tmp_path):
    """Up within a fifth, down at most so many, and without a host."""
    from tests.contract.tiny import write
    from tests.remote.runs import command, tree_of

    changes = {"prompts": {"shots": 1, "queries": 40}}
    spec = write(tree_of(llama_snapshot, **changes), tmp_path / "spec.yaml")
    no_host = {**client_env, "NDIF_HOST": "http://127.0.0.1:9", "NDIF_API_KEY": ""}
    planned = subprocess.run(
        command(spec, tmp_path / "run", "--remote", "--plan", "--json", "--job-tokens", "3000"),
        env=no_host, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert planned.returncode == 0, planned.stderr
    cost = json.loads(planned.stdout)["models"][0]["remote"]
    status, _, err = run_remotely(
        llama_snapshot, server, tmp_path / "run", "--quiet", "--job-tokens", "3000", **changes
    )
    assert status == 0, err
    jobs = manifest_of(tmp_path / "run")["models"][0]["jobs"]
    assert cost["jobs"] == len(jobs) > 3
    assert cost["tokens"] == sum(job["tokens"] for job in jobs)
    up, down = (sum(job[way] for job in jobs) for way in ("bytes_up", "bytes_down"))
    assert 0.8 < cost["bytes_up"] / up < 1.2
    assert down <= cost["bytes_down"] < 2 * down


def test_a_second_start_asks_nobody(server, llama_snapshot, tmp_path, monkeypatch):
    p = {"p": tree_of(llama_snapshot)["interventions"]["p"]}
    assert run_remotely(llama_snapshot, server, tmp_path / "run", "--quiet", interventions=p)[0] == 0
    asked = []

    def connect(self: socket.socket, address: object) -> None:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    status, out, err = run_remotely(llama_snapshot, server, tmp_path / "run", "--json", interventions=p)
    assert (status, err, asked) == (0, "", []) and json.loads(out)["interventions"]
    fresh = run_remotely(llama_snapshot, server, tmp_path / "run", "--fresh", "--patience", "1", interventions=p)
    assert fresh[0] == 3 and asked, "or nobody could have been asked"


@pytest.mark.slow
def test_parts_of_two_places_are_not_mixed(server, llama_snapshot, tmp_path):
    server.fault("server_error", times=-1)
    assert run_remotely(llama_snapshot, server, tmp_path / "run", "--quiet")[0] == 3
    server.clear()
    elsewhere = run_remotely(llama_snapshot, server, tmp_path / "run", "--quiet", f"--remote={server.url}/", "--fresh")
    assert elsewhere[0] == 0  # a slash more is no other place
    assert pl.read_parquet(tmp_path / "run" / "effects.parquet").height
