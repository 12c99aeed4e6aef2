"""What a remote run will send and bring home, told before a host is asked for anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from patchboard.engine.load import open_model
from patchboard.engine.ndif.jobs import Job, Sizes, answer_bytes, cell_jobs, decoding_jobs, probe_job
from patchboard.engine.ndif.payload import Shell
from patchboard.execution.job_results import sample_packs
from patchboard.execution.options import Remote
from patchboard.execution.packs import chosen_unseen
from patchboard.execution.remote import base_of, check_remote, payload_of, scores_of, sizes_of
from patchboard.plan.model import ModelPlan
from patchboard.plan.packs import Budget, packs_of

_MEASURED = 2
"""Requests of each kind that are written to see their sizes; those of others are told by their tokens."""


@dataclass(frozen=True)
class RemoteCost:
    """jobs: requests; tokens: in all of them, fits of each job included; bytes: of requests and of answers."""

    jobs: int
    tokens: int
    bytes_up: int
    bytes_down: int
    mantissa_bits: int

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def remote_cost(plan: ModelPlan, engine: str, digest: str, remote: Remote) -> RemoteCost:
    """Counted from the plan; requests are written, not sent. Raises what ``check_remote`` raises."""
    check_remote(plan, "auto")
    jobs, sizes = jobs_planned(plan, engine, digest, remote)
    tokenizer, _ = open_model(plan.section)
    shell = Shell(plan.section, tokenizer)
    up = sum(_kind_bytes(plan, kind, shell, sizes, remote) for kind in jobs)
    all_jobs = [job for kind in jobs for job in kind]
    return RemoteCost(
        jobs=len(all_jobs),
        tokens=sum(job.tokens for job in all_jobs),
        bytes_up=round(up),
        bytes_down=round(sum(answer_bytes(job, scores_of(plan)) for job in all_jobs)),
        mantissa_bits=sizes.bits,
    )


def jobs_planned(plan: ModelPlan, engine: str, digest: str, remote: Remote) -> tuple[list[list[Job]], Sizes]:
    """All jobs, by kind, as they will be sent if nothing is there yet and the way planned is exact."""
    sizes, base = sizes_of(plan, remote), base_of(plan, "", digest)
    packs = [(group, pack) for group in plan.groups for pack in packs_of(group, plan.facts, engine, Budget())]
    probe = [] if chosen_unseen(plan, engine) else sample_packs(plan, sizes.budget)
    kinds = [[probe_job(plan, probe, sizes, base)], decoding_jobs(plan, sizes, base)]
    return [*kinds, cell_jobs(plan, packs, sizes, base)], sizes


def _kind_bytes(plan: ModelPlan, jobs: list[Job], shell: Shell, sizes: Sizes, remote: Remote) -> float:
    """Of the requests of one kind: some are written, spread over all, the rest are as large a token."""
    if not jobs:
        return 0.0
    step = max(1, len(jobs) // _MEASURED)
    some = jobs[::step][:_MEASURED] if len(jobs) > _MEASURED else jobs
    written = sum(len(payload_of(plan, job, shell, sizes, remote.vectors)) for job in some)
    return written * sum(job.tokens for job in jobs) / max(1, sum(job.tokens for job in some))
