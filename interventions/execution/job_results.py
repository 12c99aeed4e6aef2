"""Answers of jobs as parts of the run folder: the same files that a local run leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from patchboard.engine.exactness import difference
from patchboard.engine.local import exact_match
from patchboard.engine.ndif.answers import Answer, opened_answer
from patchboard.engine.ndif.jobs import SURVEY, Job, slots_of
from patchboard.engine.ndif.structures import answers_of, of_own_task
from patchboard.engine.pack_scores import PackScores
from patchboard.execution.decodings import votes_file, write_votes
from patchboard.execution.model_run import ModelRun
from patchboard.execution.vectors import write_vectors
from patchboard.measure.kept_tokens import with_top_tokens
from patchboard.measure.notes import not_finite
from patchboard.measure.outcomes import answer_table, scored_metrics
from patchboard.ops import SubspaceTensors
from patchboard.plan.model import Decoding, EngineKind, Pack
from patchboard.plan.shown import kept_answers
from patchboard.store.ledger import JobLedger
from patchboard.store.vectors import load_vectors
from patchboard.vectors.base import Operand


class JobResults:
    """Keeps what jobs bring: parts first, then a line on the job itself, which says that all of it is there."""

    def __init__(self, run: ModelRun, ledger: JobLedger, vectors: bool):
        self.run, self.folder, self.ledger, self.vectors = run, run.folder, ledger, vectors
        self._facts: dict[str, dict[str, Any]] = {}

    def has(self, job: Job) -> bool:
        facts = self.ledger.finished(job.key)
        if facts is None or not all(self.folder.has(name) for name in self._files(job)):
            return False
        self._facts[job.key] = facts
        return True

    def facts_of(self, job: Job) -> dict[str, Any]:
        return self._facts[job.key]

    def all_facts(self) -> list[dict[str, Any]]:
        """Of all jobs, also of those that an earlier process saw home."""
        return self.ledger.all_finished()

    def unanswered(self) -> set[str]:
        """Tasks of which no fit prompt was answered correctly."""
        return {task for facts in self.all_facts() for task in facts["lacking"]}

    def _files(self, job: Job) -> list[str]:
        if job.decoding:
            return [self._votes_of_layers(job)]
        files = [self._scores(job, pack) for _, pack in job.packs]
        return files + ([self._vectors(job)] if self.vectors and job.packs else [])

    def _scores(self, job: Job, pack: Pack) -> str:
        sampled = "sample-" if job.name == SURVEY else ""
        return f"parts/{self.run.prefix}{sampled}{pack.id}.parquet"

    def _votes_of_layers(self, job: Job) -> str:
        assert job.decoding is not None
        return f"parts/{self.run.prefix}{job.decoding.id}-l{job.layers.start}.{job.layers.stop}.npz"

    def _vectors(self, job: Job) -> str:
        return f"parts/{self.run.prefix}vectors-{job.key}.safetensors"

    def take(self, job: Job, content: bytes, sent: dict[str, Any]) -> None:
        """Keep one answer. sent: facts on its way. Raises BadAnswer, ModelError where numbers are not finite."""
        packs = answers_of(job.packs)
        own = [of_own_task(group, copy) for (group, _), (_, copy) in zip(job.packs, packs, strict=True)]
        kept = [kept_answers(group, *pairs) for (group, _), pairs in zip(job.packs, packs, strict=True)]
        scored, kept_of_all = (int(sum(mask.sum() for mask in masks)) for masks in (own, kept))
        answer = opened_answer(content, job, sum(map(len, own)), scored, kept_of_all, self.run.plan.facts.vocab)
        if not answer.finite:
            raise not_finite(f"states of '{self.run.plan.section.name}'")
        start, own_start, slots = 0, 0, slots_of(job)
        tops = _by_pack(answer.top, kept)
        for (group, pack), (query, copy), mask, top in zip(job.packs, packs, own, tops, strict=True):
            stop, own_stop = start + len(query), own_start + int(mask.sum())
            values = {"accuracy": answer.scores["accuracy"][start:stop]}
            for name in scored_metrics(group.metrics)[1:]:
                values[name] = np.zeros(len(query), np.float32)  # of another task's answer nobody asks
                values[name][mask] = answer.scores[name][own_start:own_stop]
            far = {c: float(answer.moved[slots[group.id, c]]) for c in pack.copies}
            moved = {c: value for c, value in far.items() if value >= 0}
            table = with_top_tokens(answer_table(query, copy, values, moved), group, top)
            self.folder.write_table(self._scores(job, pack), table)
            start, own_start = stop, own_stop
        if job.decoding:
            self._write_votes_of_layers(job, answer)
        if self.vectors and job.packs:
            operands = {key: SubspaceTensors(**v) if isinstance(v, dict) else v for key, v in answer.vectors.items()}
            write_vectors(self.run, self._vectors(job), operands)
        facts = {"name": job.name, "tokens": job.tokens, "halved": job.halvings, **sent, **answer.facts}
        self.ledger.finish(job.key, facts)
        self._facts[job.key] = facts

    def _write_votes_of_layers(self, job: Job, answer: Answer) -> None:
        assert job.decoding is not None and answer.votes is not None and answer.hits is not None
        labels = _labels(job.decoding)
        if answer.votes.shape[1:] != answer.hits.T.shape or len(answer.hits) != len(labels):
            raise AssertionError("votes of other points than were sent")
        accuracy = np.concatenate(
            [exact_match(label, hit[None]) for label, hit in zip(labels, answer.hits, strict=True)]
        )
        write_votes(self.folder, self._votes_of_layers(job), answer.votes, accuracy, labels)

    def merge_decodings(self, jobs: Sequence[Job]) -> None:
        """The votes of each decoding, which came by layers, as its one part."""
        for decoding in self.run.plan.decodings:
            name = votes_file(self.run, decoding)
            if self.folder.has(name):
                continue
            votes, accuracy, labels = [], None, []
            for job in jobs:
                if job.decoding is decoding:
                    with np.load(self.folder.path / self._votes_of_layers(job)) as of_layers:
                        votes.append(of_layers["votes"])
                        accuracy, labels = of_layers["accuracy"], of_layers["labels"].tolist()
            assert accuracy is not None
            write_votes(self.folder, name, np.concatenate(votes), accuracy, labels)

    def merge_vectors(self) -> None:
        operands: dict[str, Operand] = {}
        for file in sorted((self.folder.path / "parts").glob(f"{self.run.prefix}vectors-*.safetensors")):
            operands |= load_vectors(file, self.folder.digest)
        write_vectors(self.run, self.run.vectors_file, operands)

    def difference(self, survey: Job) -> float:
        """Largest difference between wavefront and rows (nats), over the sample."""
        tables: dict[EngineKind, list[pl.DataFrame]] = {}
        for _, pack in survey.packs:
            tables.setdefault(pack.way, []).append(self.folder.read_table(self._scores(survey, pack)))
        return difference(_logprobs(tables["wavefront"]), _logprobs(tables["rows"]))


def _by_pack(
    top: Mapping[str, np.ndarray] | None, kept: Sequence[np.ndarray]
) -> Iterator[Mapping[str, np.ndarray] | None]:
    """What is kept of all packs' answers, pack by pack. kept: of each pack [answer] bool."""
    total, start = sum(int(mask.sum()) for mask in kept), 0
    for mask in kept:
        some = slice(start, start := start + int(mask.sum()))
        yield top and {
            name: (values.reshape(total, -1) if name in ("ids", "logprobs") and total else values)[some]
            for name, values in top.items()
        }


def _logprobs(pieces: Sequence[pl.DataFrame]) -> PackScores:
    table = pl.concat(pieces)
    columns = {name: table[name].to_numpy() for name in ("query", "copy", "logprob")}
    token = np.zeros(len(table), dtype=int)
    return PackScores(columns["query"], columns["copy"], token, {"logprob": columns["logprob"]}, {})


def _labels(decoding: Decoding) -> list[str]:
    return [label for label, prompts in decoding.prompts.items() for p in prompts if not p.excluded]
