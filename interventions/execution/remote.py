"""One model of a run, computed by an NDIF server: its jobs fill the folder's parts, as local passes would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from patchboard.engine.load import open_model
from patchboard.engine.ndif.jobs import (
    Job,
    Sizes,
    cell_jobs,
    decoding_jobs,
    in_halves,
    job_data,
    mantissa_bits,
    probe_job,
)
from patchboard.engine.ndif.payload import Shell, tools_of
from patchboard.engine.ndif.preflight import check_host, host_of, version_notes
from patchboard.engine.ndif.waiting import JobClient, OutOfMemory
from patchboard.errors import ModelError, RemoteRunError, SpecError
from patchboard.execution.decodings import decoded_tables, part_of
from patchboard.execution.job_results import RemoteParts, sample_packs
from patchboard.execution.local import lacking_notes
from patchboard.execution.options import Options, Remote, RunState
from patchboard.execution.packs import Choice, Passes, chosen_unseen, decided
from patchboard.measure.decodability import check_k
from patchboard.measure.nearest import voted
from patchboard.measure.outcomes import combined, scored_metrics
from patchboard.measure.portions import Scores
from patchboard.metrics import METRICS
from patchboard.plan.model import Group, ModelPlan
from patchboard.plan.packs import Budget, halved
from patchboard.spec import Study
from patchboard.spec.sections import ModelSection
from patchboard.store.folder import is_finished
from patchboard.store.ledger import JobLedger

_SMALLEST = 64
"""Tokens of a pass below which a server's memory is not to be pleased."""


def run_remotely(plan: ModelPlan, prefix: str, state: RunState) -> Iterator[tuple[Group, Scores]]:
    """The model's groups with their scores; its CD tables and its entry in the manifest are left in ``state``.

    Raises SpecError or ModelError before anything is sent, RemoteRunError where the host fails.
    """
    check_remote(plan, state.options.device)
    with state.timed("load"):
        run = _RemoteRun(plan, prefix, state)
    with state.timed("jobs"):
        facts = run.look()
        choice = run.choice(facts)
        run.carry_decodings()
        run.carry_cells(choice.engine)
    state.fallbacks += [choice.fallback] if choice.fallback else []
    passes = run.passes
    state.engines[plan.section.name] = passes.explained(choice.reason)
    dtype = str(facts["dtype"]).removeprefix("torch.")
    state.models.append(
        {
            "name": plan.section.name, "revision": plan.section.revision, "family": plan.facts.family,
            "layers": plan.facts.layers, "width": plan.facts.width, **run.shell.counted(),
            "dtype": dtype, "device": facts["device"], "host": run.host.url, "autocast": facts["autocast"],
            "budget": {**asdict(run.sizes.budget), "halved": sum(run.ledger.halved.values())},
            "mantissa_bits": run.sizes.bits, "jobs": run.parts.facts(),
        }
    )  # fmt: skip
    state.fallbacks += run.notes(dtype)
    with state.timed("decodability"):
        for decoding in plan.decodings:
            state.decodings += decoded_tables(state.folder, part_of(prefix, decoding), decoding, state.bootstrap)
    yield from passes.results(lambda done, of: None)


def ask_first(study: Study, path: Path, options: Options) -> None:
    """Before anything is fetched from elsewhere: the key, then the host, where the folder has nothing of it yet.

    Raises what ``check_section``, ``host_of`` and ``check_host`` raise.
    """
    assert options.remote is not None
    sections = {point.spec.model.model_dump_json(): point.spec.model for point in study.points}.values()
    for section in sections:
        check_section(section, options.device)
    if not options.fresh and (is_finished(path) or any((path / "parts").glob("*job-*.json"))):
        return  # what is home may be all that is needed
    host = host_of(options.remote.url, options.remote.patience)
    for section in sections:
        check_host(host, section)


def check_section(section: ModelSection, device: str) -> None:
    """Raises for what no server has or does."""
    if section.name == "embedded":
        raise ModelError("--remote", "the embedded model is on no server", "name a served one: --model ORG/NAME")
    if section.name.lower().endswith(".gguf"):
        raise ModelError("--remote", "a GGUF file is on no server", "name a served model: --model ORG/NAME")
    for field, value in section.changes.items():
        what = f"found {value}, and a host serves models as they are"
        raise SpecError(f"model.{field}", what, "leave it out with --remote, or run it here")
    if device != "auto":
        raise SpecError("--device", "has no meaning with --remote: the host decides", "leave it out")


def check_remote(plan: ModelPlan, device: str) -> None:
    """Raises for what a server cannot do, before anything is sent."""
    check_section(plan.section, device)
    for decoding in plan.decodings:
        check_k(decoding.section.k, sum(not p.excluded for rows in decoding.prompts.values() for p in rows))


class _RemoteRun:
    """The jobs of one model: what is missing is sent, what comes home is kept in the folder's parts."""

    def __init__(self, plan: ModelPlan, prefix: str, state: RunState):
        remote = state.options.remote
        assert remote is not None
        self.plan, self.prefix, self.state, self.remote = plan, prefix, state, remote
        self.host = host_of(remote.url, remote.patience)
        state.bind(self.host.url)
        tokenizer, _ = open_model(plan.section)
        self.shell = Shell(plan.section, tokenizer)
        self.ledger = JobLedger(state.folder, prefix)
        self.sizes = sizes_of(plan, remote)
        self.base = base_of(plan, prefix, state.folder.digest)
        self.parts = RemoteParts(plan, prefix, state, self.ledger, remote.vectors)
        self.passes = Passes(plan, state.folder, prefix, "rows", Budget())
        self._courier: JobClient | None = None

    def look(self) -> dict[str, Any]:
        """What the host tells of itself in the first job, which also computes the sample."""
        unseen = chosen_unseen(self.plan, self.state.options.engine)
        packs = [] if unseen else sample_packs(self.plan, self.sizes.budget)
        (self.probe,) = self._carried([probe_job(self.plan, packs, self.sizes, self.base)])
        return self.parts.facts_of(self.probe)

    def choice(self, facts: dict[str, Any]) -> Choice:
        asked = self.state.options.engine
        known = chosen_unseen(self.plan, asked)
        if known:
            return known
        return decided(self.plan.facts.family, asked, self.parts.difference(self.probe), facts["dtype"])

    def carry_decodings(self) -> None:
        jobs = self._carried(decoding_jobs(self.plan, self.sizes, self.base))
        self.parts.merge_decodings(jobs)

    def carry_cells(self, way: str) -> None:
        self.passes = Passes(self.plan, self.state.folder, self.prefix, way, Budget())
        self._carried(self._cell_jobs())
        if self.remote.vectors:
            self.parts.merge_vectors()

    def _cell_jobs(self) -> list[Job]:
        """Cut from all packs, so that a resumed run finds the jobs that were sent. Of jobs that were cut by other
        sizes some packs may be home: what is left of these is cut anew."""
        packs = [(group, pack) for group in self.plan.groups for pack in self.passes.packs[group.id]]
        missing = {pack.id for _, pack in self.passes.missing()}
        kept, left = [], []
        for job in cell_jobs(self.plan, packs, self.sizes, self.base):
            lacks = [(group, pack) for group, pack in job.packs if pack.id in missing]
            if len(lacks) == len(job.packs) or self.ledger.id_of(self._as_sent(job).key):
                kept.append(job)
            else:
                left += lacks
        return [*kept, *cell_jobs(self.plan, left, self.sizes, self.base)]

    def _as_sent(self, job: Job) -> Job:
        """The job in passes as small as it needed until now."""
        times = self.ledger.halved.get(job.key, 0)
        return in_halves(job, times) if times else job

    def _carried(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs as they came home, each halved as often as the host's memory asked for."""
        while True:
            sent = [self._as_sent(job) for job in jobs]
            missing = [job for job in sent if not self.parts.has(job)]
            if not missing:
                return sent
            courier = self._ready()
            courier.total = courier.done + len(missing)
            try:
                courier.carry(missing)
            except OutOfMemory as error:
                self._halve(error.job, next(job for job, own in zip(jobs, sent, strict=True) if own is error.job))

    def _halve(self, job: Job, whole: Job) -> None:
        """whole: the same job before it was ever halved."""
        smaller = self.sizes.budget.halved(job.halvings + 1)
        single = all(len(halved(pack, 1)) == 1 for _, pack in job.packs)
        if smaller.tokens < _SMALLEST or (job.packs and single):
            what = f"job {job.name} does not fit in its memory, however small its passes"
            raise RemoteRunError(self.host.url, what, "use fewer shots or another model; finished jobs are kept")
        self.ledger.halve(whole.key)
        self.remote.tell(f"job {job.name}: out of memory on the host, cut in halves")

    def _ready(self) -> JobClient:
        """The way to the host, once it is known to serve the model."""
        if self._courier is None:
            served = check_host(self.host, self.plan.section)
            self.state.folder.update_manifest(host={"url": self.host.url, "versions": served.versions})
            self._courier = JobClient(
                self.host,
                served.model_key or self.shell.model_key(served.repo_id),
                self.shell.environment(),
                self.ledger,
                payload=self._payload,
                take=self.parts.take,
                tell=self.remote.tell,
            )
        return self._courier

    def _payload(self, job: Job) -> bytes:
        return payload_of(self.plan, job, self.shell, self.sizes, self.remote.vectors)

    def notes(self, dtype: str) -> list[str]:
        """What a reader of the run must know of where it ran."""
        notes = lacking_notes(self.parts.lacking(), self.plan, self.prefix)
        asked = self.plan.section.dtype
        if asked not in ("auto", dtype):
            notes.append(f"{self.plan.section.name} is served in {dtype}, the spec asks for {asked}")
        notes += version_notes(self.state.folder.manifest.get("host", {}).get("versions", {}))
        if self.sizes.bits < 23:
            notes.append(f"scores came home with {self.sizes.bits} bits of mantissa, to stay below 2 MB")
        return notes


def payload_of(plan: ModelPlan, job: Job, shell: Shell, sizes: Sizes, vectors: bool) -> bytes:
    names = [name for group, _ in job.packs for name in scored_metrics(group.metrics)] or ["accuracy"]
    metrics = {name: METRICS.get(name, "metrics") for name in dict.fromkeys(names)}
    return shell.payload(job_data(plan, job, shell.config, sizes, vectors), tools_of(metrics, combined, voted))


def sizes_of(plan: ModelPlan, remote: Remote) -> Sizes:
    pairs = sum(len(group.prompts) * len(group.copies) for group in plan.groups)
    return Sizes(remote.job_tokens, mantissa_bits(pairs * scores_of(plan)))


def scores_of(plan: ModelPlan) -> int:
    """Of each answer, beside accuracy."""
    return max((len(scored_metrics(group.metrics)) - 1 for group in plan.groups), default=0)


def base_of(plan: ModelPlan, prefix: str, digest: str) -> str:
    """What all keys of a model's jobs depend on."""
    return f"{version('patchboard')}/{digest}/{prefix}{plan.section.name}@{plan.section.revision}"
