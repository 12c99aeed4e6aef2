"""`patchboard view --bundle`: all links lead to files of the bundle, which replaces its like and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from patchboard.commands.main import main
from patchboard.view.bundle import write_bundle
from patchboard.view.site import Site
from tests.contract.tiny import one_error
from tests.view.conftest import change_json


@pytest.fixture
def root(finished, unfinished, tmp_path) -> Path:
    """Two runs that can be compared, one under a name that no address can have, and one that was stopped."""
    folder = tmp_path / "runs"
    finished(folder / "a")
    finished(folder / "deep" / "<b> # 1%?")
    unfinished(folder / "stopped", KeyboardInterrupt())
    (folder / "notes").mkdir()
    (folder / "notes" / "x.json").write_text("{}")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def rows_of(out: Path) -> list[dict]:
    return json.loads((out / "index.html").read_text().split('id="data">')[1].split("</script>")[0])["rows"]


def test_all_that_it_links_to_is_there(root, tmp_path, capsys):
    out = tmp_path / "site"
    assert main(["view", str(root), "--bundle", str(out)]) == 0
    told = capsys.readouterr().out
    files = contents(out)
    size = sum(map(len, files.values())) - len(files["bundle.json"]) - len(files["README.md"])
    assert told == f"{out / 'index.html'}: 2 finished runs, {size / 1e6:.1f} MB\n"
    linked = {f"{row['at']}/{file['name']}" for row in rows_of(out) for file in row["files"]}
    pages = {"index.html", "compare.html", "README.md", "bundle.json"}
    assert files.keys() == linked | pages
    texts = [files[page].decode() for page in ("index.html", "compare.html")]
    hrefs = {name for text in texts for name in re.findall(r'href="([^"]*)"', text)}
    assert hrefs == {"data:,", "index.html", *(name for name in linked if name.endswith("report.html"))}
    compared = re.findall(r'data-at="([^"]*)"', texts[1])
    assert [row["at"] for row in rows_of(out) if row["comparable"]] == compared and len(compared) == 2
    for each in Site(root).look():
        for name in each.files:
            if f"{each.at}/{name}" in linked:
                assert files[f"{each.at}/{name}"] == (each.path / name).read_bytes()
    assert not any(name.endswith(("outcomes.parquet", "prompts.parquet", "progress.json")) for name in linked)
    assert not any("notes" in name for name in linked)
    assert not any(str(tmp_path) in text or re.search("https?:", text) for text in texts)


def test_it_is_a_static_space(root, tmp_path):
    write_bundle(root, tmp_path / "site")
    _, front, text = (tmp_path / "site" / "README.md").read_text().split("---\n")
    assert yaml.safe_load(front) == {
        "title": "Runs in runs", "sdk": "static", "app_file": "index.html", "pinned": False,
    }  # fmt: skip
    assert text.startswith("\nRuns as `patchboard view runs --bundle` wrote them.") and "OWNER/NAME site" in text
    (tmp_path / "site" / "README.md").write_text("mine")
    write_bundle(root, tmp_path / "site")
    assert (tmp_path / "site" / "README.md").read_text() == "mine"


def test_an_earlier_bundle_is_replaced(root, tmp_path):
    """With the files of runs that are gone; what a repository keeps beside it stays."""
    out = tmp_path / "site"
    (out / ".git").mkdir(parents=True)
    (out / ".git" / "HEAD").write_text("ref")
    write_bundle(root, out)
    first = contents(out)
    write_bundle(root, out)
    assert contents(out).keys() == first.keys()
    (root / "a").rename(tmp_path / "gone")
    write_bundle(root, out)
    left = contents(out)
    assert "runs/a/report.html" in first and not (out / "runs" / "a").exists() and left[".git/HEAD"] == b"ref"
    assert "compare.html" not in left  # one run is left
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []


def test_what_is_no_bundle_is_left_alone(root, tmp_path, capsys):
    for name in ("full", "file", "marked"):
        out = tmp_path / name
        if name == "file":
            out.write_text("mine")
        else:
            out.mkdir()
            (out / "index.html").write_text("mine")
        if name == "marked":
            (out / "bundle.json").write_text("[]")
        before = contents(tmp_path)
        assert main(["view", str(root), "--bundle", str(out)]) == 2
        assert one_error(capsys) == f"error: --bundle: '{out}' is there already and is no bundle; name another folder"
        assert contents(tmp_path) == before


def test_its_list_deletes_nothing_elsewhere(root, tmp_path):
    """The list of an earlier bundle is a file that anyone may have written."""
    out = tmp_path / "site"
    write_bundle(root, out)
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("mine")
    (out / "link").symlink_to(tmp_path / "elsewhere")
    strange = ["../mine", str(tmp_path / "mine"), "runs/../../mine", "link/mine"]
    change_json(out / "bundle.json", files=[*strange, "index.html"])
    write_bundle(root, out)
    assert (tmp_path / "mine").exists() and (tmp_path / "elsewhere" / "mine").exists() and rows_of(out)


def test_a_bundle_among_the_runs_is_no_run(root):
    write_bundle(root, root / "site")
    before = [each.row.folder for each in Site(root).look()]
    write_bundle(root, root / "site")
    assert before == [row["folder"] for row in rows_of(root / "site")] and not any("site" in name for name in before)


def test_a_damaged_table_is_left_out_of_the_comparison(root, finished, tmp_path):
    finished(root / "c")
    (root / "c" / "curves.parquet").write_bytes(b"cut")
    write_bundle(root, tmp_path / "site")
    assert {row["folder"]: row["comparable"] for row in rows_of(tmp_path / "site")} == {
        "a": True, "c": False, "deep/<b> # 1%?": True, "stopped": False, "notes": False,
    }  # fmt: skip


def test_nothing_is_written_where_no_run_is(tmp_path, capsys):
    (tmp_path / "runs" / "notes").mkdir(parents=True)
    (tmp_path / "runs" / "notes" / "x.txt").write_text("")
    assert main(["view", str(tmp_path / "runs"), "--bundle", str(tmp_path / "site")]) == 2
    assert "holds no run" in one_error(capsys) and not (tmp_path / "site").exists()


def test_a_place_that_cannot_be_written_is_one_line(root, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["view", str(root), "--bundle", str(tmp_path / "file" / "site")]) == 2
    assert "cannot be written" in one_error(capsys)
