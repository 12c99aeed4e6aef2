"""The story of indirect object identification of a hosted model: the same tables, to the bit, as of a local one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.ioi_models import saved_ioi_model
from tests.remote.conftest import LoopbackServer, Snapshot, snapshot_of
from tests.remote.runs import as_client, packed_as_there
from tests.scripts import ran

SMALL = ("--prompts.queries=4", "--statistics.bootstrap=100", "--wandb=off")
TABLES = {
    "ioi.py": ("task", "places", "heads", "attending", "cuts"),
    "ioi_published.py": ("direct",),
}


@pytest.fixture(scope="module")
def names_snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Four layers, width 32, with a token for each name."""
    folder = saved_ioi_model(tmp_path_factory.mktemp("served"), "llama", hidden_size=32, intermediate_size=64)
    return snapshot_of(folder, tmp_path_factory.mktemp("hf-home"))


@pytest.fixture(scope="module")
def names_server(names_snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackServer]:
    server = LoopbackServer(names_snapshot.folder, (), tmp_path_factory.mktemp("server") / "stderr")
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize(("script", "flags"), [("ioi.py", ("--movers=2", "--window=2")), ("ioi_published.py", ())])
def test_a_hosted_model_has_the_tables_of_a_local_one(script, flags, names_server, names_snapshot, tmp_path):
    def tables(model: str, out: Path, *how: str) -> dict[str, pl.DataFrame]:
        with as_client(names_snapshot, names_server):
            status, _, error = ran(script, "--model", model, *SMALL, *flags, "--out", str(out), *how)
        assert status == 0, error
        return {name: pl.read_parquet(out / "experiment" / f"{name}.parquet") for name in TABLES[script]}

    with packed_as_there():
        here = tables(str(names_snapshot.folder), tmp_path / "here")
    there = tables(names_snapshot.repo, tmp_path / "there", "--remote")
    assert names_server.log("request"), "the host was asked"
    assert all(here[name].equals(there[name]) and len(here[name]) for name in here)
