"""Answers of jobs as parts of the run folder: the same files that local passes leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from patchboard.engine.exactness import difference, sample
from patchboard.engine.local import PackScores, exact_match
from patchboard.engine.ndif.answers import Answer, opened_answer
from patchboard.engine.ndif.jobs import Job, slots_of
from patchboard.engine.ndif.structures import answers_of, of_own_task
from patchboard.execution.decodings import keep_decoded, part_of
from patchboard.execution.local import keep_vectors
from patchboard.execution.options import RunState
from patchboard.measure.notes import not_finite
from patchboard.measure.outcomes import answer_table, scored_metrics
from patchboard.ops import SubspaceTensors
from patchboard.plan.model import Decoding, EngineKind, Group, ModelPlan, Pack
from patchboard.plan.packs import Budget
from patchboard.store.ledger import JobLedger
from patchboard.store.vectors import load_vectors


def sample_packs(plan: ModelPlan, budget: Budget) -> list[tuple[Group, Pack]]:
    """The same few cells in each way."""
    group = plan.groups[0]
    return [(group, sample(group, budget, way)) for way in ("wavefront", "rows")]


class RemoteParts:
    """Keeps what jobs bring: parts first, then a line on the job itself, which says that all of it is there."""

    def __init__(self, plan: ModelPlan, prefix: str, state: RunState, ledger: JobLedger, vectors: bool):
        self.plan, self.prefix, self.folder, self.ledger = plan, prefix, state.folder, ledger
        self.vectors = vectors
        self._done: dict[str, dict[str, Any]] = {}

    def has(self, job: Job) -> bool:
        facts = self.ledger.finished(job.key)
        if facts is None or not all(self.folder.has(name) for name in self._files(job)):
            return False
        self._done[job.key] = facts
        return True

    def facts_of(self, job: Job) -> dict[str, Any]:
        return self._done[job.key]

    def facts(self) -> list[dict[str, Any]]:
        """Of all jobs, also of those that an earlier process saw home."""
        return self.ledger.all_finished()

    def lacking(self) -> set[str]:
        """Tasks of which no fit prompt was answered correctly."""
        return {task for facts in self.facts() for task in facts["lacking"]}

    def _files(self, job: Job) -> list[str]:
        if job.decoding:
            return [self._piece(job)]
        files = [self._part(job, pack) for _, pack in job.packs]
        return files + ([self._vectors(job)] if self.vectors and job.packs else [])

    def _part(self, job: Job, pack: Pack) -> str:
        sampled = "sample-" if job.name == "probe" else ""
        return f"parts/{self.prefix}{sampled}{pack.id}.parquet"

    def _piece(self, job: Job) -> str:
        assert job.decoding is not None
        return f"parts/{self.prefix}{job.decoding.id}-l{job.layers.start}.{job.layers.stop}.npz"

    def _vectors(self, job: Job) -> str:
        return f"parts/{self.prefix}vectors-{job.key}.safetensors"

    def take(self, job: Job, content: bytes, sent: dict[str, Any]) -> None:
        """Keep one answer. Raises BadAnswer, ModelError where numbers are not finite."""
        packs = answers_of(job.packs)
        own = [of_own_task(group, copy) for (group, _), (_, copy) in zip(job.packs, packs, strict=True)]
        answer = opened_answer(content, job, sum(map(len, own)), int(sum(mask.sum() for mask in own)))
        if not answer.finite:
            raise not_finite(f"states of '{self.plan.section.name}'")
        start, begun, slots = 0, 0, slots_of(job)
        for (group, pack), (query, copy), mask in zip(job.packs, packs, own, strict=True):
            stop, end = start + len(query), begun + int(mask.sum())
            values = {"accuracy": answer.scores["accuracy"][start:stop]}
            for name in scored_metrics(group.metrics)[1:]:
                values[name] = np.zeros(len(query), np.float32)  # of another task's answer nobody asks
                values[name][mask] = answer.scores[name][begun:end]
            far = {c: float(answer.moved[slots[group.id, c]]) for c in pack.copies}
            moved = {c: value for c, value in far.items() if value >= 0}
            self.folder.write_table(self._part(job, pack), answer_table(query, copy, values, moved))
            start, begun = stop, end
        if job.decoding:
            self._keep_piece(job, answer)
        if self.vectors and job.packs:
            made = {key: SubspaceTensors(**v) if isinstance(v, dict) else v for key, v in answer.vectors.items()}
            keep_vectors(self.plan, self._vectors(job), made, self.folder)
        facts = {"name": job.name, "tokens": job.tokens, "halved": job.halvings, **sent, **answer.facts}
        self.ledger.finish(job.key, facts)
        self._done[job.key] = facts

    def _keep_piece(self, job: Job, answer: Answer) -> None:
        assert job.decoding is not None and answer.votes is not None and answer.hits is not None
        labels = _labels(job.decoding)
        if answer.votes.shape[1:] != answer.hits.T.shape or len(answer.hits) != len(labels):
            raise AssertionError("votes of other points than were sent")
        accuracy = np.concatenate(
            [exact_match(label, hit[None]) for label, hit in zip(labels, answer.hits, strict=True)]
        )
        keep_decoded(self.folder, self._piece(job), answer.votes, accuracy, labels)

    def merge_decodings(self, jobs: Sequence[Job]) -> None:
        """The pieces of each decoding, by layers, as its one part."""
        for decoding in self.plan.decodings:
            name = part_of(self.prefix, decoding)
            if self.folder.has(name):
                continue
            votes, accuracy, labels = [], None, []
            for job in jobs:
                if job.decoding is decoding:
                    with np.load(self.folder.path / self._piece(job)) as piece:
                        votes.append(piece["votes"])
                        accuracy, labels = piece["accuracy"], piece["labels"].tolist()
            assert accuracy is not None
            keep_decoded(self.folder, name, np.concatenate(votes), accuracy, labels)

    def merge_vectors(self) -> None:
        operands: dict[str, Any] = {}
        for file in sorted((self.folder.path / "parts").glob(f"{self.prefix}vectors-*.safetensors")):
            operands |= load_vectors(file, self.folder.digest)
        keep_vectors(self.plan, f"{self.prefix}vectors.safetensors", operands, self.folder)

    def difference(self, probe: Job) -> float:
        """Largest difference between wavefront and rows (nats), from the probe's parts."""
        tables: dict[EngineKind, list[pl.DataFrame]] = {}
        for _, pack in probe.packs:
            tables.setdefault(pack.way, []).append(self.folder.read_table(self._part(probe, pack)))
        return difference(_logprobs(tables["wavefront"]), _logprobs(tables["rows"]))


def _logprobs(pieces: Sequence[pl.DataFrame]) -> PackScores:
    table = pl.concat(pieces)
    columns = {name: table[name].to_numpy() for name in ("query", "copy", "logprob")}
    token = np.zeros(len(table), dtype=int)
    return PackScores(columns["query"], columns["copy"], token, {"logprob": columns["logprob"]}, {})


def _labels(decoding: Decoding) -> list[str]:
    return [label for label, prompts in decoding.prompts.items() for p in prompts if not p.excluded]
