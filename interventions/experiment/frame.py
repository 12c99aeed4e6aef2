"""What an experiment gives, and how its folder is written: computed once, found again when it is whole."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import polars as pl

from patchboard.execution.identity import RESULTS_VERSION, versions
from patchboard.execution.options import Options
from patchboard.execution.results import bootstrap_of
from patchboard.experiment.page import Page, Table, write_page
from patchboard.experiment.settings import ExperimentSettings
from patchboard.measure.statistics import Bootstrap
from patchboard.spec import Study
from patchboard.spec.digest import digest_of
from patchboard.spec.sections import Spec
from patchboard.store import EXAMINED
from patchboard.store.folder import RunFolder, is_finished, open_run, read_manifest
from patchboard.store.identity import Identity

if TYPE_CHECKING:  # matplotlib takes seconds to load, which a plan can do without
    from patchboard.report.drawing import Drawing

Tables = Mapping[str, pl.DataFrame]
"""File name -> table."""
Summary = Mapping[str, Any]
"""Contents of summary.json."""

Subject = TypeVar("Subject")
Settings = TypeVar("Settings", bound=ExperimentSettings)


class Experiment(ABC, Generic[Subject]):
    """From a subject to a finished folder. Subject: what the experiment is about, a run or settings made ready."""

    tables: ClassVar[Sequence[str]]
    """The files of ``compute``, each a table; further ``files`` it writes itself."""
    files: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def compute(self, subject: Subject, folder: RunFolder, options: Options) -> Tables:
        """All of ``tables``. What it leaves under ``folder``/parts to resume from is dropped at the end."""

    @abstractmethod
    def summarise(self, subject: Subject, tables: Tables) -> dict[str, Any]:
        """What the findings and the page are told from, ready for JSON."""

    @abstractmethod
    def findings(self, summary: Summary) -> Sequence[str]:
        """In sentences."""

    @abstractmethod
    def page(self, subject: Subject, tables: Tables, summary: Summary) -> Page:
        """What the page says and shows. matplotlib takes a second to load: figures are imported here."""

    def runs(self, subject: Subject, folder: RunFolder) -> Sequence[Path]:
        """Folders of the library's runs that the numbers come from. folder: the experiment's own."""
        return ()

    def is_whole(self, folder: RunFolder, formats: Sequence[str] = ()) -> bool:
        """Whether nothing is left to do. formats: of figures, beside PNG."""
        from patchboard.report.formats import lacking

        whole = folder.finished and not folder.unsound([*self.tables, *self.files, "summary.json", "report.html"])
        return whole and not lacking(folder.path, formats)

    def complete(self, place: Path, digest: str, subject: Subject, options: Options) -> Path:
        """Write the folder of that digest, or find it whole; returns it."""
        with open_run(place, digest, options.fresh) as folder:
            if not self.is_whole(folder, options.figures):
                self.write(subject, folder, options)
        return place

    def write(self, subject: Subject, folder: RunFolder, options: Options) -> None:
        """Write the tables, the summary and the page; what a finished folder has of its tables is not made again."""
        from patchboard.report.findings import departures  # the reports' matplotlib takes seconds to load

        if folder.finished and not folder.unsound([*self.tables, *self.files]):
            tables: Tables = {name: folder.read_table(name) for name in self.tables}
        else:
            tables = self.compute(subject, folder, options)
            for name in self.tables:
                folder.write_table(name, tables[name])
        summary = self.summarise(subject, tables)
        departed = [sentence for run in self.runs(subject, folder) for sentence in departures(read_manifest(run))]
        if departed:
            summary["departures"] = list(dict.fromkeys(departed))  # findings end with them
        folder.write_json("summary.json", summary)
        write_page(folder.path, self.page(subject, tables, summary), options.figures)
        folder.update_manifest(status="finished")
        folder.drop_parts()


@dataclass(frozen=True)
class FinishedRun:
    """A finished run and the study that it ran."""

    study: Study
    folder: RunFolder

    @property
    def spec(self) -> Spec:
        """Of the study's first point: what is not swept."""
        return self.study.points[0].spec

    @property
    def bootstrap(self) -> Bootstrap:
        return bootstrap_of(self.study)


class Prose(Protocol):
    """A module that tells a summary in words: ``experiments/NAME/findings.py``."""

    def introduction(self, summary: Summary) -> Sequence[str]:
        """What was run, in sentences."""
        ...

    def findings(self, summary: Summary) -> Sequence[str]:
        """What came out, in sentences, printed and on the page."""
        ...

    def overview(self, summary: Summary) -> Sequence[Table]:
        """The page's tables of text."""
        ...


class StudyExperiment(Experiment[FinishedRun]):
    """One that makes something of a finished run, in a folder inside it."""

    title: ClassVar[str]
    """Of the page."""
    prose: ClassVar[Prose]

    @property
    def variant(self) -> dict[str, Any]:
        """The script's own settings that change what is computed of the same run: each has a folder of its own."""
        return {}

    def prepare(self, study: Study) -> Study:
        """The user's study -> the one to run. Raises SpecError where it does not suit."""
        return study

    def following(self, study: Study) -> Sequence[Study]:
        """Studies that ``compute`` runs, as far as they are known before, for --plan."""
        return ()

    @abstractmethod
    def drawings(self, run: FinishedRun, tables: Tables, summary: Summary) -> Iterator[Drawing]:
        """The page's figures. matplotlib takes a second to load: they are imported here."""

    def examine(self, run: FinishedRun, options: Options) -> Path:
        """Write the experiment's folder, or find it finished; returns it. Raises PatchboardError as a run does."""
        variant = self.variant
        digest = digest_of({"study": run.study.digest, **variant}) if variant else run.study.digest
        return self.complete(folder_of_variant(run.folder.path, digest, variant), digest, run, options)

    def findings(self, summary: Summary) -> Sequence[str]:
        return [*self.prose.findings(summary), *summary.get("departures", ())]

    def runs(self, subject: FinishedRun, folder: RunFolder) -> Sequence[Path]:
        return [subject.folder.path]

    def spec_text(self, run: FinishedRun) -> str:
        """What the page shows of the settings."""
        return (run.folder.path / "spec.yaml").read_text(encoding="utf-8")

    def page(self, run: FinishedRun, tables: Tables, summary: Summary) -> Page:
        texts = self.prose.introduction(summary), self.findings(summary), self.prose.overview(summary)
        return Page(self.title, *texts, self.spec_text(run), self.drawings(run, tables, summary))


def folder_of_variant(run: Path, digest: str, variant: Mapping[str, Any]) -> Path:
    """``experiment`` for the variant that was asked for first, ``experiment-top-1-5`` for others."""
    first = run / EXAMINED
    if read_manifest(first).get("digest", digest) == digest:
        return first
    words = [str(word) for name, value in variant.items() for word in (name, *(value if _is_list(value) else [value]))]
    return run / "-".join([EXAMINED, *words])


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))


class TrainingExperiment(Experiment[Subject], Generic[Subject, Settings]):
    """One that trains models of its own, from settings of its own, in a folder of its own."""

    @abstractmethod
    def plan(self, settings: Settings) -> dict[str, Any]:
        """What would run, as plain data. Raises PatchboardError."""

    @abstractmethod
    def prepare(self, settings: Settings) -> Subject:
        """All that can be refused before anything is trained. Raises PatchboardError."""

    def identity(self, settings: Settings, place: Path, fresh: bool) -> Identity:
        """What the numbers come from beside the settings. place, fresh: the folder that is to hold them, and whether
        they are to replace what is there. Raises PatchboardError."""
        return Identity(RESULTS_VERSION)

    def run(self, settings: Settings, options: Options) -> Path:
        """Run, resume or just find the experiment's folder; returns it. Raises PatchboardError."""
        place = options.out or Path("runs") / f"{settings.name}-{settings.digest[:8]}"
        # before the folder is made or, with --fresh, cleared: bad input must not leave one, or cost the results in it
        subject = self.prepare(settings) if options.fresh or not is_finished(place) else None
        identity = self.identity(settings, place, options.fresh)
        with open_run(place, settings.digest, options.fresh, identity) as folder:
            if not self.is_whole(folder, options.figures):
                subject = subject or self.prepare(settings)
                folder.write_text("spec.yaml", settings.yaml)
                start = time.monotonic()
                self.write(subject, folder, options)
                seconds = {**folder.manifest.get("seconds", {}), "all": round(time.monotonic() - start, 1)}
                folder.update_manifest(versions=versions(), seconds=seconds)
        return place
