"""Cases from a user's files or a data set, read once as long as what they hold stays the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, cast

from pydantic import Field, model_validator

from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Section
from patchboard.tasks.cases import Case, CaseColumns, CaseSource
from patchboard.tasks.files import sha256_of
from patchboard.tasks.hub import WHERE as DATASET
from patchboard.tasks.hub import HubOptions, load_rows, local_files
from patchboard.tasks.pair_dataset import column_values
from patchboard.tasks.pair_files import WHERE as FILES
from patchboard.tasks.pair_files import matching_files, read_rows


class CaseDataset(CaseColumns, HubOptions):
    """A data set of cases, read with the `datasets` library."""


class CaseOptions(Section):
    files: Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description=".json, .jsonl, .csv or .tsv files, folders of them, or glob patterns, from the working folder",
    )
    columns: CaseColumns = Field(CaseColumns(), description="what the rows of the files call their parts")
    dataset: CaseDataset | None = Field(None, description="in place of files")

    @model_validator(mode="after")
    def _one_source(self) -> CaseOptions:
        if self.files is None and self.dataset is None:
            raise InvalidValue("is missing", "add files or a dataset", ("files",))
        if self.dataset is not None:
            beside = "files" if self.files is not None else "columns" if "columns" in self.model_fields_set else ""
            if beside:
                remedy = "leave one out" if beside == "files" else "name the columns under dataset"
                raise InvalidValue("is given beside dataset, expected one source", remedy, (beside,))
        return self

    def found(self) -> list[Path]:
        """The files that the rows come from; of a data set, those of a local folder. Raises TaskError."""
        return local_files(self.dataset.name) if self.dataset is not None else matching_files(self.files or ())


def read_cases(options: CaseOptions) -> Sequence[Case]:
    """All rows in order. Raises TaskError, which names the row or line, where one is no case."""
    return _read(
        options.model_dump_json(exclude_unset=True), tuple((file, sha256_of(file)) for file in options.found())
    )


@lru_cache(maxsize=4)
def _read(told: str, contents: tuple[tuple[Path, str], ...]) -> Sequence[Case]:
    """told: the options as given; contents: each file with its digest, so that a changed one is read anew."""
    options = CaseOptions.model_validate_json(told)
    if options.dataset is not None:
        return _of_dataset(options.dataset)
    source = CaseSource.of(FILES, options.columns)
    return [case for file, _ in contents for case in cast("list[Case]", read_rows(file, source))]


def _of_dataset(options: CaseDataset) -> list[Case]:
    source = CaseSource.of(DATASET, options)
    columns: Mapping[str, str] = {"base": options.base, "answer": options.answer}
    rows = load_rows(options.name, options.config, options.revision, options.split, columns, source.reads)
    values = {column: column_values(rows, column) for column in rows.column_names}
    if not len(rows):
        raise source.refused(f"split '{options.split}' of '{options.name}' is empty", "name another split")
    return [
        source.row({column: each[i] for column, each in values.items()}, f"row {i} of '{options.name}'")
        for i in range(len(rows))
    ]
