"""Data sets of the Hub or of a local folder, read with the `datasets` library."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from patchboard.errors import TaskError
from patchboard.hub import HubSilentError, downloaded
from patchboard.registry import suggest
from patchboard.spec.section import Section
from patchboard.user_paths import expanded

WHERE = "tasks.dataset"


class HubOptions(Section):
    """Which split of which data set; a family adds its columns."""

    name: str = Field(description="Hub name or local folder")
    config: str | None = None
    revision: str | None = Field(None, description="branch, tag or commit on the Hub")
    split: str = "train"


def load_rows(
    name: str, config: str | None, revision: str | None, split: str, columns: Mapping[str, str],
    also: Callable[[str], bool] = lambda _: False,
) -> Any:  # fmt: skip
    """One split of a data set, with these columns alone and those of which ``also`` says so.

    columns: field of the spec -> column. Raises TaskError where the data set cannot be had or has no such columns.
    """
    rows = _load(name, config, revision, split)
    for field, column in columns.items():
        if column not in rows.column_names:
            what = f"'{name}' has no column '{column}'"
            raise TaskError(f"{WHERE}.{field}", what, suggest(column, rows.column_names))
    return rows.select_columns([*dict.fromkeys([*columns.values(), *filter(also, rows.column_names)])])


def class_names(rows: Any, column: str) -> Any:
    """The names (a list of text) of a column of ClassLabels, or of lists of them; None of any other."""
    feature = rows.features[column]
    return getattr(getattr(feature, "feature", feature), "names", None)


def local_files(name: str) -> list[Path]:
    """The files of a data set that is a local folder, to which a run is bound; none of one of the Hub."""
    folder = expanded(name)
    return sorted(
        file
        for file in (folder.rglob("*") if folder.is_dir() else ())
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def _load(name: str, config: str | None, revision: str | None, split: str) -> Any:
    import datasets
    from datasets.exceptions import DatasetsError

    quiet = not sys.stderr.isatty() and not datasets.are_progress_bars_disabled()
    if quiet:
        datasets.disable_progress_bars()
    source = str(expanded(name))

    def load() -> Any:
        return datasets.load_dataset(source, config, split=split, revision=revision)

    try:
        return load() if Path(source).exists() else downloaded(load, name, revision, kind="dataset")
    except HubSilentError as error:
        what = f"split '{split}' of '{name}' cannot be loaded ({error})"
        raise TaskError(WHERE, what, "check the network, or give a local folder") from None
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TaskError(
            WHERE,
            f"split '{split}' of '{name}' cannot be loaded ({reason})",
            "check name, config, revision, split and the network, or give a local folder",
        ) from None
    finally:
        if quiet:
            datasets.enable_progress_bars()
