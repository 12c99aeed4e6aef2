"""Peak memory of a run hardly depends on the number of queries: everything is read and written piece by piece."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from patchboard.tasks.grammar import LEXICON
from tests.conftest import ROOT
from tests.contract.tiny import VECTOR, tiny_tree, write

QUERIES = (100, 3000)


def peak_of(llama_folder: Path, data: list[str], queries: int, folder: Path) -> int:
    """Bytes that a run of its own process holds at most."""
    tree = tiny_tree(
        llama_folder,
        tasks={"family": "pairs", "files": data, "include_null": False},
        prompts={"shots": 1, "queries": queries},
        interventions={"p": {"op": "add", "vector": VECTOR, "layers": [0, 1, 2], "strength": {"sweep": [0.5, 1, 2]}}},
        metrics=["accuracy", "logprob", "kl"],
        statistics={"bootstrap": 2000},
    )
    spec = write(tree, folder / f"{queries}.yaml")
    command = [sys.executable, "-m", "patchboard", "run", spec, "--out", str(folder / str(queries)), "--quiet"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, used = os.wait4(process.pid, 0)  # of this child alone
    assert status == 0
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not tell a child's memory")
def test_thirty_times_the_queries_take_little_more_memory(llama_folder, tmp_path):
    """Two tasks of 27 cells and three metrics: 486,000 outcomes of 3,000 queries.

    Held as one table, beside all resamples of all queries, they took 386 MiB more than those of 100 queries;
    piece by piece 73, most of it for passes that are full (100 queries do not fill one).
    """
    words = [word for tag in LEXICON.values() for word in tag]
    inputs = [" ".join(four) for four in itertools.islice(itertools.product(words, repeat=4), 0, None, 101)][:6400]
    data = []
    for place, name in enumerate(("first", "second")):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps([{"input": text, "output": text.split()[place]} for text in inputs]))
        data.append(str(file))
    few, many = (peak_of(llama_folder, data, queries, tmp_path) for queries in QUERIES)
    assert many - few < 150 * 2**20, f"{few >> 20} MiB for {QUERIES[0]} queries, {many >> 20} for {QUERIES[1]}"
