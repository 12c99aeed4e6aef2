"""The jobs of one model's plan: a survey of the host first, then decodings, then cells; and each as a request."""

from __future__ import annotations

from collections.abc import Sequence

from patchboard.engine.ndif.job_data import job_data
from patchboard.engine.ndif.jobs import Job, Sizes, cell_jobs, decoding_jobs, recipes_of, survey_job
from patchboard.engine.ndif.payload import Shell, tools_of
from patchboard.engine.nnsight_model import embedding_of
from patchboard.execution.choose_engine import sample_packs
from patchboard.execution.identity import RESULTS_VERSION
from patchboard.execution.options import Remote
from patchboard.measure.nearest import voted
from patchboard.measure.outcomes import combined, scored_metrics
from patchboard.metrics import METRICS
from patchboard.plan.model import Group, ModelPlan, Pack


class JobMaker:
    """The same plan, run (digest, prefix) and sizes give the same jobs, by which a resumed run knows its own."""

    def __init__(self, plan: ModelPlan, prefix: str, digest: str, remote: Remote):
        self.plan, self.remote = plan, remote
        self.sizes = Sizes(remote.job_tokens)
        self._base = f"{RESULTS_VERSION}/{digest}/{prefix}{plan.section.name}@{plan.section.revision}"

    @property
    def scores(self) -> int:
        """Of each answer, beside accuracy."""
        return max((len(scored_metrics(group.metrics)) - 1 for group in self.plan.groups), default=0)

    def survey(self, requested: str) -> Job:
        """What the host tells of itself, with the sample by which the engine is chosen. requested: of ``--engine``."""
        return survey_job(self.plan, sample_packs(self.plan, requested, self.sizes.budget), self.sizes, self._base)

    def decodings(self) -> list[Job]:
        return decoding_jobs(self.plan, self.sizes, self._base)

    def cells(self, packs: Sequence[tuple[Group, Pack]]) -> list[Job]:
        return cell_jobs(self.plan, packs, self.sizes, self._base)

    def payload(self, job: Job, shell: Shell) -> bytes:
        """The job's request."""
        names = [name for group, _ in job.packs for name in scored_metrics(group.metrics)] or ["accuracy"]
        metrics = {name: METRICS.get(name, "metrics") for name in dict.fromkeys(names)}
        ops = [edit.op for group, pack in job.packs for i in pack.copies for edit in group.copies[i].edits]
        kinds = [recipe.kind for recipe in recipes_of(self.plan, job.packs).values()]
        data = job_data(
            self.plan, job, shell.config, self.sizes, self.remote.vectors, embedding_of(shell.model._module)
        )
        return shell.payload(data, tools_of(ops, kinds, metrics, combined, voted))
