"""Rows say what the runs' files say; what is running, left or damaged is told in one line, and spoils no other."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from patchboard.errors import RemoteRunError
from patchboard.report.numbers import with_interval
from patchboard.store.progress import told_in
from patchboard.view import find
from patchboard.view.page import index_page
from patchboard.view.rows import Row
from patchboard.view.site import Site
from tests.view.conftest import change_json

MARKUP = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", 'a" onclick="alert(3)', "a & b's")


def rows_in(root: Path) -> dict[str, Row]:
    shown = Site(root).look()
    page, _ = index_page(root, shown, live=True)
    assert page.endswith("</html>") and len(shown) == len({each.row.folder for each in shown})
    told = json.loads(page.split('id="data">')[1].split("</script>")[0])["rows"]
    assert [row["folder"] for row in told] == [each.row.folder for each in shown]
    assert all("\n" not in each.row.told for each in shown)
    return {each.row.folder: each.row for each in shown}


def test_a_finished_run_is_its_summary(finished, tmp_path):
    folder = finished(tmp_path / "runs" / "deep" / "inside" / "a", name="planted")
    row = rows_in(tmp_path / "runs")["deep/inside/a"]
    summary = json.loads((folder / "summary.json").read_text())
    assert (row.status, row.name, row.metric, row.took) == ("finished", "planted", "accuracy", 18.6)
    assert row.models == ("example/planted-8-layers@abc1234",) and row.tasks[:3] == ("bitwise", "AND", "NAND")
    assert row.when == pytest.approx((folder / "manifest.json").stat().st_mtime)
    points = [(name, point) for name, entry in summary["interventions"].items() for point in entry["points"]]
    assert len(row.effects) == len(points) == 8
    for effect in row.effects:
        (point,) = (
            point
            for name, point in points
            if name == effect["intervention"] and effect["setting"] == f"shots = {point['shots']}"
        )
        assert effect["text"] == with_interval(point) and effect["place"] == point["layers"]
        randoms = [entry for name, entry in point["controls"].items() if name.startswith("random")]
        overlap = any(r["ci_low"] <= point["ci_high"] and point["ci_low"] <= r["ci_high"] for r in randoms)
        assert effect["apart"] != overlap
    assert any("no fit prompt of XNOR" in note for note in row.notes) and any("XOR" in note for note in row.notes)


def test_the_largest_that_a_random_control_has_not_comes_first(finished, tmp_path):
    folder = finished(tmp_path / "runs" / "a")
    first = rows_in(tmp_path / "runs")["a"].effects[0]
    assert first["intervention"] == "positive" and first["apart"]
    summary = json.loads((folder / "summary.json").read_text())
    for point in summary["interventions"]["erased"]["points"]:
        measured = {"effect": -0.9, "ci_low": -1.0, "ci_high": -0.8}
        point |= measured
        point["controls"]["random_subspace"] |= measured
    change_json(folder / "summary.json", **summary)
    effects = rows_in(tmp_path / "runs")["a"].effects
    assert effects[0] == first
    erased = [each for each in effects if each["intervention"] == "erased"]
    assert len(erased) == 2 and not any(each["apart"] for each in erased)
    assert all(each["apart"] for each in effects[: effects.index(erased[0])])


def test_a_run_without_effects_has_its_cd(finished, tmp_path):
    folder = finished(tmp_path / "runs" / "a")
    cd = {"layer": 4, "shots": 4, "cd": 0.8642, "ci_low": 0.8, "ci_high": 0.9, "chance": 0.1}
    change_json(folder / "summary.json", interventions={}, decodability=cd)
    row = rows_in(tmp_path / "runs")["a"]
    assert (row.status, row.effects, row.cd, row.cd_value) == ("finished", (), "0.86 (layer 4)", 0.8642)


def test_unfinished_runs_say_how_far_they_are(unfinished, tmp_path):
    unfinished(tmp_path / "runs" / "stopped", KeyboardInterrupt())
    unfinished(tmp_path / "runs" / "failed", RemoteRunError("host", "is silent", "try again"))
    unfinished(tmp_path / "runs" / "older")
    folder = unfinished(tmp_path / "runs" / "running")
    killed = unfinished(tmp_path / "runs" / "killed")
    with told_in(folder) as tick:
        tick("packs", 17, 50)
        shutil.copy(folder / "progress.json", killed)
        change_json(killed / "progress.json", born=1.0)
        rows = rows_in(tmp_path / "runs")
    told = {name: (row.status, row.told) for name, row in rows.items()}
    assert told == {
        "stopped": ("interrupted", "stopped at packs 34 %; its command resumes it"),
        "failed": ("failed", "host: is silent; try again"),
        "older": ("interrupted", "unfinished; its command resumes it"),
        "running": ("running", "packs 34 %"),
        "killed": ("interrupted", "killed at packs 34 %; its command resumes it"),
    }
    assert rows["running"].share == 0.34 and rows["stopped"].share is None
    assert {row.name for row in rows.values()} == {"planted"} and rows["running"].tasks == ("bitwise",)
    assert rows["running"].models == ("example/planted-8-layers",)


def test_a_sweep_has_a_row_and_its_points_their_parameters(finished, unfinished, tmp_path):
    sweep = tmp_path / "runs" / "sweep-x"
    finished(sweep / "one")
    unfinished(sweep / "two")
    points = [
        {"parameters": {"prompts.shots": 1}, "folder": "one", "status": 0, "message": "", "value": 0.25},
        {"parameters": {"prompts.shots": 2}, "folder": "two", "status": 3, "message": "host: is silent", "value": None},
        {"parameters": {"prompts.shots": -1}, "folder": "three", "status": 2, "message": "shots: -1", "value": None},
    ]
    told = {"name": "x", "digest": "ab" * 32, "metric": "m", "goal": "maximize", "points": points}
    best = {"parameters": {"prompts.shots": 1}, "value": 0.25}
    (sweep / "sweep.json").write_text(json.dumps({**told, "best": best}))
    (sweep / "logs").mkdir()
    (sweep / "logs" / "one.log").write_text("")
    rows = rows_in(tmp_path / "runs")
    assert rows.keys() == {"sweep-x", "sweep-x/one", "sweep-x/two", "sweep-x/three"}
    assert rows["sweep-x"].told == "3 points, 2 failed; maximized m: 0.250 at shots = 1"
    assert [rows[f"sweep-x/{name}"].point for name in ("one", "two", "three")] == [
        "shots = 1",
        "shots = 2",
        "shots = -1",
    ]
    assert (rows["sweep-x/two"].status, rows["sweep-x/two"].told) == ("failed", "host: is silent")
    assert (rows["sweep-x/three"].status, rows["sweep-x/three"].told) == ("failed", "shots: -1")
    (sweep / "sweep.json").write_text("{")
    assert rows_in(tmp_path / "runs")["sweep-x"].told.startswith("sweep.json cannot be read")


def test_a_sweep_that_runs_has_no_row_yet(unfinished, tmp_path):
    sweep = tmp_path / "runs" / "sweep-x"
    (sweep / "logs").mkdir(parents=True)
    (sweep / ".lock").write_text("")
    (sweep / "logs" / "one.log").write_text("")
    assert rows_in(tmp_path / "runs") == {}
    unfinished(sweep / "one")
    assert rows_in(tmp_path / "runs").keys() == {"sweep-x/one"}


def test_a_report_that_is_being_drawn_is_not_called_missing(finished, tmp_path):
    folder = finished(tmp_path / "runs" / "a")
    (folder / "report.html").unlink()
    (folder / ".lock").write_text("")
    assert rows_in(tmp_path / "runs")["a"].told == "its report is being drawn"


def test_an_experiment_has_its_page_and_no_effects(finished, tmp_path):
    folder = finished(tmp_path / "runs" / "a")
    shutil.copytree(folder, folder / "experiment")
    (folder / "experiment" / "summary.json").write_text('{"some": "thing"}')
    rows = rows_in(tmp_path / "runs")
    assert rows["a/experiment"].status == "finished" and not rows["a/experiment"].effects and rows["a"].effects


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("manifest.json", '{"dig', "manifest.json cannot be read"),
        ("manifest.json", "[]", "manifest.json is not the manifest of a run"),
        ("manifest.json", None, "holds a run without its manifest.json"),
        (
            "manifest.json",
            '{"digest": "a", "version": 99, "status": "finished"}',
            "was written in format 99, this is 1",
        ),
        ("summary.json", '{"interventions', "is no run that this version reads (JSONDecodeError"),
        ("summary.json", None, "is no run that this version reads (FileNotFoundError"),
        ("summary.json", "[]", "is no run that this version reads"),
        ("summary.json", "\ud800", "is no run that this version reads (UnicodeDecodeError"),
        ("report.html", None, "report.html is missing: `patchboard report` draws it again"),
    ],
)
def test_a_damaged_run_is_one_line(finished, tmp_path, file, text, told):
    folder = finished(tmp_path / "runs" / "a")
    finished(tmp_path / "runs" / "b")
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_bytes(text.encode("utf-8", "surrogatepass"))
    rows = rows_in(tmp_path / "runs")
    assert rows["a"].told.startswith(told) and rows["b"].status == "finished" and not rows["b"].told
    assert rows["a"].status == ("finished" if file == "report.html" else "wrong")


def leaves(tree: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield (*path, key)
        yield from leaves(value, *path, key)


@pytest.mark.parametrize("name", ["summary.json", "manifest.json"])
def test_whatever_stands_in_a_file_the_page_is_whole(finished, tmp_path, name):
    """Each entry in turn is missing, null, text, a number that is none, or a list."""
    folder = finished(tmp_path / "runs" / "a")
    whole = json.loads((folder / name).read_text())
    # one of what is alike: of interventions, tasks, points, metrics
    if name == "summary.json":
        added = whole["interventions"]["added"]
        added["points"] = [{key: added["points"][0][key] for key in added["points"][0] if key != "per_task"}]
        whole["interventions"] = {"added": {"per_task": {"AND": {}}, "points": added["points"]}}
    for path in leaves(whole):
        for value in (None, "text", float("nan"), [1]):
            tree = copy.deepcopy(whole)
            at = tree
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = value
            (folder / name).write_text(json.dumps(tree))
            (shown,) = Site(tmp_path / "runs").look()
            json.dumps(shown.as_json(), allow_nan=False)
            assert "\n" not in shown.row.told


def test_what_is_no_run_has_one_row_for_all_below(finished, tmp_path):
    root = tmp_path / "runs"
    for place in ("notes/a/b", "notes/c", "mixed/notes"):
        (root / place).mkdir(parents=True)
        (root / place / "x.txt").write_text("")
    (root / "notes" / "y.txt").write_text("")
    (root / "empty" / "too").mkdir(parents=True)
    (root / ".hidden").mkdir()
    finished(root / "mixed" / "run")
    (root / "link").symlink_to(finished(tmp_path / "elsewhere"))
    told = {name: row.told for name, row in rows_in(root).items()}
    no, link = "holds no run", "is a link, and links are not followed"
    assert told == {"notes": no, "mixed/notes": no, "mixed/run": "", "link": link}
    assert rows_in(root / "mixed" / "run").keys() == {"run"}  # a run's own folder is a page of one


def test_a_whole_disk_is_not_walked(finished, tmp_path, monkeypatch):
    finished(tmp_path / "runs" / "a")
    for number in range(20):
        (tmp_path / "runs" / f"b{number:02}").mkdir()
    monkeypatch.setattr(find, "MOST_FOLDERS", 10)
    rows = rows_in(tmp_path / "runs")
    assert rows["a"].status == "finished" and "more than 10 folders" in rows["runs"].told


@pytest.mark.parametrize("text", MARKUP)
def test_names_are_never_markup(finished, tmp_path, text):
    """They stand in the page as data, and in links as text."""
    root = tmp_path / "runs"
    finished(root / text.replace("/", "_"), name=text)
    shown = Site(root).look()
    page, policy = index_page(root, shown, live=False)
    assert page.count("<script") == 2 and "<img" not in page and 'a" onclick' not in page.split("<script")[0]
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    told = json.loads(page.split('id="data">')[1].split("</script>")[0])["rows"]
    assert [row["name"] for row in told] == [text]


def test_a_name_that_is_no_text_is_shown(finished, tmp_path):
    root = tmp_path / "runs"
    finished(root / os.fsdecode(b"\xff"))
    (shown,) = Site(root).look()
    assert shown.row.status == "finished" and shown.at.isascii()
    page, _ = index_page(root, [shown], live=False)
    page.encode()


def test_different_folders_have_different_addresses(finished, tmp_path):
    root = tmp_path / "runs"
    for name in ("a b", "a_b", "a?b", "a#b", "A_b", "a%b", "seed[1]"):
        finished(root / name)
    shown = Site(root).look()
    assert len({each.at for each in shown}) == 7
    assert all(Site(root).file(f"{each.at}/summary.json") == each.path / "summary.json" for each in shown)


def test_rows_are_read_again_only_where_files_changed(finished, tmp_path, monkeypatch):
    import patchboard.view.site as module

    folder = finished(tmp_path / "runs" / "a")
    finished(tmp_path / "runs" / "b")
    read: list[str] = []
    original = module.row_of
    monkeypatch.setattr(module, "row_of", lambda place: (read.append(place.path.name), original(place))[1])
    monkeypatch.setattr(module, "_FRESH", -1.0)
    site = Site(tmp_path / "runs")
    assert [each.row.name for each in site.look()] == ["planted", "planted"] and read == ["a", "b"]
    site.look()
    assert read == ["a", "b"]
    change_json(folder / "manifest.json", name="another")
    assert [each.row.name for each in site.look()] == ["another", "planted"] and read == ["a", "b", "a"]
