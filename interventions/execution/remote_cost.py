"""What a remote run will send and bring home, told before a host is asked for anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from patchboard.engine.load import open_model
from patchboard.engine.ndif.answer_bytes import largest_answer
from patchboard.engine.ndif.jobs import Job
from patchboard.engine.ndif.payload import Shell
from patchboard.execution.job_maker import JobMaker
from patchboard.execution.options import Remote
from patchboard.execution.remote_checks import check_remote_plan
from patchboard.plan.model import ModelPlan
from patchboard.plan.packs import Budget, packs_of

_WRITTEN = 2
"""Requests of each kind that are written to see their sizes; those of others are told by their tokens."""


@dataclass(frozen=True)
class RemoteCost:
    """jobs: requests; tokens: in all of them, fits of each job included; bytes_up: of requests, about; bytes_down: of
    answers, at most."""

    jobs: int
    tokens: int
    bytes_up: int
    bytes_down: int

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def remote_cost(plan: ModelPlan, engine: str, digest: str, remote: Remote) -> RemoteCost:
    """Counted from the plan; requests are written, not sent. Raises what ``check_remote_plan`` raises."""
    check_remote_plan(plan)
    maker = JobMaker(plan, "", digest, remote)
    kinds = jobs_planned(maker, engine)
    tokenizer, _ = open_model(plan.section)
    shell = Shell(plan.section, tokenizer)
    jobs = [job for kind in kinds for job in kind]
    return RemoteCost(
        jobs=len(jobs),
        tokens=sum(job.tokens for job in jobs),
        bytes_up=round(sum(_kind_bytes(maker, kind, shell) for kind in kinds)),
        bytes_down=sum(largest_answer(plan, job, maker.scores, remote.vectors) for job in jobs),
    )


def jobs_planned(maker: JobMaker, engine: str) -> list[list[Job]]:
    """All jobs, by kind, as they will be sent if nothing is there yet and the engine planned is exact."""
    plan = maker.plan
    packs = [(group, pack) for group in plan.groups for pack in packs_of(group, plan.facts, engine, Budget())]
    return [[maker.survey(engine)], maker.decodings(), maker.cells(packs)]


def _kind_bytes(maker: JobMaker, jobs: list[Job], shell: Shell) -> float:
    """Of the requests of one kind: some are written, spread over all, the rest are as large a token."""
    if not jobs:
        return 0.0
    step = max(1, len(jobs) // _WRITTEN)
    some = jobs[::step][:_WRITTEN] if len(jobs) > _WRITTEN else jobs
    written = sum(len(maker.payload(job, shell)) for job in some)
    return written * sum(job.tokens for job in jobs) / max(1, sum(job.tokens for job in some))
