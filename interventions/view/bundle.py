"""The page and the runs' files as static files: for any host, for a Space on the Hub, and for a browser from disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

from patchboard.errors import RunFolderError, SpecError
from patchboard.report.explorer import explorer_block
from patchboard.report.numbers import counted
from patchboard.report.run_files import Run, read_run
from patchboard.store.integrity import PROGRESS
from patchboard.store.version import VERSION
from patchboard.view.find import BUNDLE
from patchboard.view.page import comparison_page, index_page
from patchboard.view.site import Shown, Site

_LEFT_OUT = ("outcomes.parquet", "prompts.parquet", ".safetensors", PROGRESS)
"""Of each run: what is large, and of which the page's numbers are made; and which machine computes it."""

README = "README.md"
_README = """---
title: {title}
sdk: static
app_file: index.html
pinned: false
---

Runs as `patchboard view {folder} --bundle` wrote them. Open `index.html`: from disk, from any static host, or as a
static Space on the Hub (`hf upload OWNER/NAME {out} --repo-type space`).
"""


def write_bundle(root: Path, out: Path) -> str:
    """Write ``index.html``, ``compare.html`` and the runs' files into a folder; gives a line on it.

    An earlier bundle there is replaced; its README stays, as does what else lies there, a repository's ``.git`` say.
    Raises SpecError for a folder that holds other things, RunFolderError where no run is.
    """
    root = root.resolve()
    earlier = _check_free(out)
    shown = [_for_bundle(each) for each in Site(root).look()]
    if not any(each.at for each in shown):
        raise RunFolderError(str(root), "holds no run", "name a folder with runs in it")
    half = out.absolute().with_name(f".{out.absolute().name}.half")
    shutil.rmtree(half, ignore_errors=True)
    try:
        half.mkdir(parents=True)
        _write(root, shown, half)
        files = sorted(file.relative_to(half).as_posix() for file in half.rglob("*") if file.is_file())
        size = sum((half / file).stat().st_size for file in files)
        _put(half / BUNDLE, json.dumps({"version": VERSION, "files": files}, indent=1))
        _remove(out, earlier)
        for file in [*files, BUNDLE]:
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            (half / file).replace(out / file)
        if not (out / README).exists():
            title = json.dumps(f"Runs in {root.name}", ensure_ascii=False)
            _put(out / README, _README.format(title=title, folder=root.name, out=out.absolute().name))
    except OSError as error:
        raise SpecError("--bundle", f"'{out}' cannot be written ({error.strerror})", "name another folder") from None
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return f"{out / 'index.html'}: {_counted(shown)}, {size / 1e6:.1f} MB"


def _check_free(out: Path) -> list[str]:
    """Files of an earlier bundle there. Raises SpecError where other things are; hidden ones do not count."""
    if not out.exists():
        return []
    if out.is_dir() and not any(not entry.name.startswith(".") for entry in out.iterdir()):
        return []
    try:
        files = json.loads((out / BUNDLE).read_text(encoding="utf-8"))["files"]
        return [*(file for file in files if _is_inside(out, file)), BUNDLE]
    except (OSError, ValueError, KeyError, TypeError):
        what = f"'{out}' is there already and is no bundle"
        raise SpecError("--bundle", what, "name another folder") from None


def _is_inside(out: Path, file: str) -> bool:
    """Whether a bundle may have written it: its list is a file that anyone may have edited."""
    return (out / file).parent.resolve().is_relative_to(out.resolve())


def _for_bundle(shown: Shown) -> Shown:
    kept = {name: size for name, size in shown.files.items() if not name.endswith(_LEFT_OUT)}
    return replace(shown, files=kept)


def _write(root: Path, shown: Sequence[Shown], into: Path) -> None:
    for each in shown:
        for name in each.files:
            place = into / each.at / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(each.path / name, place)
    runs = dict(_readable(shown))
    if len(runs) > 1:
        _put(into / "compare.html", _comparison(runs))
    shown = [replace(each, comparable=each.at in runs) for each in shown]
    _put(into / "index.html", index_page(root, shown, live=False)[0])


def _readable(shown: Sequence[Shown]) -> Iterator[tuple[str, Run]]:
    """(address, run) of those that can be compared: a table may be damaged where the row is not."""
    for each in shown:
        with suppress(RunFolderError):
            if each.comparable:
                yield each.at, read_run(each.path)


def _comparison(runs: Mapping[str, Run]) -> str:
    first, *others = runs.values()
    explorer = explorer_block(first, others, queries=False)
    assert explorer is not None  # each has effects
    return comparison_page(explorer, list(runs))


def _remove(out: Path, files: Sequence[str]) -> None:
    """Delete an earlier bundle's files, and the folders that are then empty."""
    for file in files:
        (out / file).unlink(missing_ok=True)
    folders = {parent for file in files for parent in PurePosixPath(file).parents} - {PurePosixPath()}
    for folder in sorted(folders, key=lambda each: -len(each.parts)):
        if (out / folder).is_dir() and not any((out / folder).iterdir()):
            (out / folder).rmdir()


def _counted(shown: Sequence[Shown]) -> str:
    return counted(sum(each.row.status == "finished" for each in shown), "finished run")


def _put(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
