"""--fresh on a folder in which an experiment left its own tables: nothing of it outlasts, nothing else is touched."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from patchboard.errors import RunFolderError
from patchboard.store import EXAMINED
from patchboard.store.folder import check_free, open_run
from patchboard.store.integrity import remove_left

TABLE = pl.DataFrame({"task": ["AND"], "cd": [0.5]})


@pytest.fixture
def run(tmp_path) -> Path:
    """A finished run and, inside it, a finished experiment; in both something of the user's."""
    out = tmp_path / "run"
    with open_run(out, "d" * 8) as folder:
        folder.write_text("spec.yaml", "name: run\n")
        folder.update_manifest(status="finished")
    with open_run(out / EXAMINED, "d" * 8) as folder:
        for name in ("pairs.parquet", "anything.parquet"):
            folder.write_table(name, TABLE)
        folder.write_text("summary.json", "{}\n")
        folder.update_manifest(status="finished")
    for place in (out, out / EXAMINED):
        TABLE.write_parquet(place / "mine.parquet")
    return out


def files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


def test_fresh_takes_the_experiment_with_its_run(run):
    """Else, killed before the experiment's turn, the same command would find the old one finished beside a new run."""
    with open_run(run, "d" * 8, fresh=True):
        assert files(run) == {"manifest.json", ".lock", "mine.parquet", f"{EXAMINED}/mine.parquet"}


def test_an_experiments_folder_without_the_users_files_goes_as_a_whole(run):
    (run / EXAMINED / "mine.parquet").unlink()
    with open_run(run, "d" * 8, fresh=True):
        assert not (run / EXAMINED).exists()


def test_fresh_removes_an_experiments_own_tables_and_no_others(run):
    with open_run(run / EXAMINED, "d" * 8, fresh=True):
        assert files(run / EXAMINED) == {"manifest.json", ".lock", "mine.parquet"}


def test_a_folder_of_the_users_by_the_same_name_stays(tmp_path):
    with open_run(tmp_path / "run", "d" * 8) as folder:
        folder.write_text("spec.yaml", "name: run\n")
    (tmp_path / "run" / EXAMINED).mkdir()
    (tmp_path / "run" / EXAMINED / "summary.json").write_text("{}")
    with open_run(tmp_path / "run", "d" * 8, fresh=True):
        assert (tmp_path / "run" / EXAMINED / "summary.json").exists()


def test_tables_of_an_experiment_are_nothing_strange_where_the_manifest_is_lost(tmp_path):
    """hijack.py and its like keep their tables in the run folder itself."""
    out = tmp_path / "lab"
    with open_run(out, "d" * 8) as folder:
        folder.write_text("spec.yaml", "name: lab\n")
        folder.write_table("margins.parquet", TABLE)
    (out / "manifest.json").unlink()
    with pytest.raises(RunFolderError, match="use --fresh"):
        check_free(out, "d" * 8, fresh=False)
    check_free(out, "d" * 8, fresh=True)
    TABLE.write_parquet(out / "mine.parquet")
    with pytest.raises(RunFolderError, match="other things than a run"):
        check_free(out, "d" * 8, fresh=True)


HALVES = (".pairs.77.parquet", ".heads.2147483000.parquet", ".memories.9.safetensors", "figures/.a.8.png")


def test_what_a_kill_left_of_an_experiments_tables_goes_at_the_next_start(run):
    """Of tables whose names no run has, in the experiment's folder and in that of one which trains."""
    kept = (".thesis.77.tex", "notes.77.parquet")
    for place in (run, run / EXAMINED):
        (place / "figures").mkdir()
        for name in (*HALVES, *kept):
            (place / name).write_text("half")
        with open_run(place, "d" * 8):
            found = {name for name in (*HALVES, *kept) if (place / name).exists()}
            assert found == set(kept)


def test_in_a_folder_that_is_no_runs_the_same_names_are_the_users(tmp_path):
    (tmp_path / ".pairs.77.parquet").write_text("years of work")
    with pytest.raises(RunFolderError, match="other things than a run"), open_run(tmp_path, "d" * 8):
        pass
    assert (tmp_path / ".pairs.77.parquet").exists()


def test_without_a_lock_only_what_dead_processes_left_goes(tmp_path):
    note, dead = tmp_path / "mirror.json", 2**22 + 1  # above any process's number
    for process in (os.getpid(), dead):
        (tmp_path / f".mirror.{process}.json").write_text("half")
    (tmp_path / f".other.{dead}.json").write_text("half")
    remove_left(note)
    assert {path.name for path in tmp_path.iterdir()} == {f".mirror.{os.getpid()}.json", f".other.{dead}.json"}
