"""Vectors of files go along with the jobs: the same tables as here, to the bit."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from patchboard.commands.main import main
from tests.contract.test_vector_files import FITTED, KEYS
from tests.remote.runs import assert_same_tables, run_here, run_remotely

CHANGES = {"controls": ["self", "random", "other_task"], "decodability": None}


@pytest.mark.parametrize(
    "options", [(), pytest.param(("--separate",), marks=pytest.mark.slow)], ids=["one process", "separate"]
)
def test_vectors_of_files_travel(servers, llama_snapshot, tmp_path, options):
    """Fitted by a run here, written out without a stamp (the model is a folder here and has a name there), used on
    both sides; in jobs so small that each has some of them."""
    fitted = run_here(llama_snapshot, tmp_path / "fitted", interventions=FITTED, **CHANGES)
    assert main(["vectors", "export", str(fitted), "--format", "npz", "--to", str(tmp_path / "out")]) == 0
    file = str(tmp_path / "out" / "vectors.npz")
    sections = {n: {**section, "vector": {"file": file, "key": KEYS[n]}} for n, section in FITTED.items()}
    given = ["--quiet", "--vectors", "--job-tokens", "300"]
    server, run = servers(*options), tmp_path / "run"
    status, _, err = run_remotely(llama_snapshot, server, run, *given, interventions=sections, **CHANGES)
    assert (status, err) == (0, "") and len(server.log("request")) > 2
    assert_same_tables(run, run_here(llama_snapshot, tmp_path / "here", interventions=sections, **CHANGES))
    own, before = load_file(run / "vectors.safetensors"), load_file(fitted / "vectors.safetensors")
    assert all(own[key].equal(before[key]) for key in ("d/XOR/1", "h/AND/1.1", "n/OR/1", "f/AND/2"))
