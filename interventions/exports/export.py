"""A finished run's vectors into a folder of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

from patchboard.errors import RunFolderError, SpecError
from patchboard.exports.card import CARD, MARK, card_text
from patchboard.exports.choose import Wanted, choose
from patchboard.exports.formats import WRITERS
from patchboard.report.run_files import read_run

BESIDE = ("spec.yaml", "report.html")
"""Files of the run that go along to the Hub."""


def export(folder: Path, out: Path | None, format: str, wanted: Wanted) -> list[Path]:
    """Write the chosen vectors in one format, and their card; gives the files, the card last.

    out: None for NAME-vectors beside the run's folder. Raises RunFolderError where there is no finished run or no
    vector, SpecError for a choice that is empty, what the format cannot hold, and a folder with other things in it.
    """
    run = read_run(folder)
    chosen = choose(folder, run.manifest["models"], wanted)
    out = out or folder.parent / f"{folder.resolve().name}-vectors"
    _check_free(out)
    half = out.with_name(f".{out.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    try:
        half.mkdir(parents=True)
        files = [file for one in chosen for file in WRITERS[format](one, half)]
        (half / CARD).write_text(card_text(run, chosen, files, wanted.tasks), encoding="utf-8")
        out.mkdir(parents=True, exist_ok=True)
        written = [file.replace(out / file.name) for file in [*files, half / CARD]]
    except OSError as error:
        raise SpecError("--to", f"'{out}' cannot be written ({error.strerror})", "name another folder") from None
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return written


def _check_free(out: Path) -> None:
    """Raises SpecError for a folder that is not ours: only a card of ours and what is beside it are written over."""
    if not out.exists():
        return
    card = out / CARD
    if not out.is_dir() or (any(out.iterdir()) and not (card.is_file() and MARK in card.read_text("utf-8", "replace"))):
        raise SpecError("--to", f"'{out}' is there already and was not exported", "name another folder")


def beside(folder: Path) -> list[Path]:
    """The run's own files that are published with its vectors. Raises RunFolderError where one is missing."""
    files = [folder / name for name in BESIDE]
    for file in files:
        if not file.is_file():
            raise RunFolderError(str(file), "is missing", "patchboard report RUN_DIR draws the page again")
    return files
