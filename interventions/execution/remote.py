"""One model of a run, computed by an NDIF server: its jobs fill the folder's parts, as a local run would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from patchboard.engine.load import open_model
from patchboard.engine.ndif.job_client import JobClient, OutOfMemory
from patchboard.engine.ndif.jobs import Job, in_halves
from patchboard.engine.ndif.payload import Shell
from patchboard.engine.ndif.preflight import check_host, host_of, version_notes
from patchboard.errors import RemoteRunError
from patchboard.execution.choose_engine import EngineChoice, choice_by_difference, choice_without_sample
from patchboard.execution.identity import bind_to_place, bind_to_served_commit
from patchboard.execution.job_maker import JobMaker
from patchboard.execution.job_results import JobResults
from patchboard.execution.model_run import Measure, ModelResult, ModelRun, model_entry
from patchboard.execution.pack_parts import PackParts
from patchboard.execution.remote_checks import check_remote_plan
from patchboard.execution.vectors import notes_on_unanswered
from patchboard.plan.packs import Budget, halved
from patchboard.store.ledger import JobLedger

_FEWEST_TOKENS = 64
"""Of a pass, below which a server's memory is not to be pleased."""


def compute_remotely(run: ModelRun, measure: Measure) -> ModelResult:
    """Have all computed that the model's plan asks for; ``measure`` is called with each group once all is home.

    Raises SpecError or ModelError before anything is sent, RemoteRunError where the host fails.
    """
    plan = run.plan
    check_remote_plan(plan)
    with run.progress.timed("load"):
        host = _RemoteModel(run)
    with run.progress.timed("jobs"):
        survey = host.survey()
        choice = host.choose_engine(survey)
        host.carry_decodings()
        parts = host.carry_cells(choice.engine)
    for group in plan.groups:
        measure(group, parts.scores(group))
    facts = host.results.facts_of(survey)
    units = [each["embedding_sd"] for each in host.results.all_facts() if "embedding_sd" in each]
    dtype = str(facts["dtype"]).removeprefix("torch.")
    entry = model_entry(
        plan,
        host.shell.counted(),
        dtype,
        facts["device"],
        host=host.host.url,
        autocast=facts["autocast"],
        budget={**asdict(host.maker.sizes.budget), "halved": sum(host.ledger.halved.values())},
        jobs=host.results.all_facts(),
        **({"embedding_sd": units[0]} if units else {}),
    )
    fallback = [choice.fallback] if choice.fallback else []
    return ModelResult(entry, parts.explain(choice.reason), [*fallback, *host.notes(dtype)])


class _RemoteModel:
    """The jobs of one model: what is missing is sent, what comes home is kept in the folder's parts."""

    def __init__(self, run: ModelRun):
        remote = run.options.remote
        assert remote is not None
        self.run, self.remote = run, remote
        self.host = host_of(remote.url, remote.patience)
        bind_to_place(run.folder, self.host.url)
        tokenizer, _ = open_model(run.plan.section)
        self.shell = Shell(run.plan.section, tokenizer)
        self.ledger = JobLedger(run.folder, run.prefix)
        self.maker = JobMaker(run.plan, run.prefix, run.folder.digest, remote)
        self.results = JobResults(run, self.ledger, remote.vectors)
        self._client: JobClient | None = None

    def survey(self) -> Job:
        """The first job, once it is home: what the host tells of itself, and the sample."""
        (job,) = self._carry([self.maker.survey(self.run.options.engine)], "first job")
        return job

    def choose_engine(self, survey: Job) -> EngineChoice:
        plan, requested = self.run.plan, self.run.options.engine
        choice = choice_without_sample(plan, requested)
        if choice:
            return choice
        dtype = self.results.facts_of(survey)["dtype"]
        return choice_by_difference(plan.facts.family, requested, self.results.difference(survey), dtype)

    def carry_decodings(self) -> None:
        self.results.merge_decodings(self._carry(self.maker.decodings(), "jobs for CD"))

    def carry_cells(self, engine: str) -> PackParts:
        """The packs' parts, all of them home."""
        parts = PackParts(self.run.plan, self.run.folder, self.run.prefix, engine, Budget())
        self._carry(self._cell_jobs(parts), "jobs")
        if self.remote.vectors:
            self.results.merge_vectors()
        return parts

    def _cell_jobs(self, parts: PackParts) -> list[Job]:
        """Cut from all packs, so that a resumed run finds the jobs that were sent. Of jobs that were cut by other
        sizes some packs may be home: what is left of these is cut anew."""
        packs = [(group, pack) for group in self.run.plan.groups for pack in parts.packs[group.id]]
        missing = {pack.id for _, pack in parts.missing()}
        jobs, left = [], []
        for job in self.maker.cells(packs):
            lacking = [(group, pack) for group, pack in job.packs if pack.id in missing]
            if len(lacking) == len(job.packs) or self.ledger.id_of(self._as_sent(job).key):
                jobs.append(job)
            else:
                left += lacking
        return [*jobs, *self.maker.cells(left)]

    def _as_sent(self, job: Job) -> Job:
        """The job in passes as small as it needed until now."""
        times = self.ledger.halved.get(job.key, 0)
        return in_halves(job, times) if times else job

    def _carry(self, jobs: Sequence[Job], phase: str) -> list[Job]:
        """The jobs as they came home, each halved as often as the host's memory asked for. phase: for progress."""
        while True:
            sent = [self._as_sent(job) for job in jobs]
            missing = [job for job in sent if not self.results.has(job)]
            if not missing:
                return sent
            client = self._connected()
            client.total = client.done + len(missing)
            client.step = self.run.progress.counter(phase, len(missing))
            try:
                client.run(missing)
            except OutOfMemory as error:
                self._halve(error.job, next(job for job, own in zip(jobs, sent, strict=True) if own is error.job))

    def _halve(self, job: Job, whole: Job) -> None:
        """whole: the same job before it was ever halved."""
        smaller = self.maker.sizes.budget.halved(job.halvings + 1)
        single = all(len(halved(pack, 1)) == 1 for _, pack in job.packs)
        if smaller.tokens < _FEWEST_TOKENS or (job.packs and single):
            what = f"job {job.name} does not fit in its memory, however small its passes"
            raise RemoteRunError(self.host.url, what, "use fewer shots or another model; finished jobs are kept")
        self.ledger.halve(whole.key)
        self.remote.tell(f"job {job.name}: out of memory on the host, cut in halves")

    def _connected(self) -> JobClient:
        """The way to the host, once it is known to serve the model."""
        if self._client is None:
            served = check_host(self.host, self.run.plan.section)
            bind_to_served_commit(self.run.folder, self.run.plan.section, served.commit)
            self.run.folder.update_manifest(host={"url": self.host.url, "versions": served.versions})
            self._client = JobClient(
                self.host,
                served.model_key or self.shell.model_key(served.repo_id),
                self.shell.environment(),
                self.ledger,
                payload=lambda job: self.maker.payload(job, self.shell),
                take=self.results.take,
                tell=self.remote.tell,
            )
        return self._client

    def notes(self, dtype: str) -> list[str]:
        """What a reader of the run must know of where it ran. dtype: as served."""
        section = self.run.plan.section
        notes = notes_on_unanswered(self.run, self.results.unanswered())
        if section.dtype not in ("auto", dtype):
            notes.append(f"{section.name} is served in {dtype}, the spec asks for {section.dtype}")
        notes += version_notes(self.run.folder.manifest.get("host", {}).get("versions", {}))
        return notes
