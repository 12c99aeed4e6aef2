"""What lies in a run's folder, each file read when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.api.study import Study, load
from patchboard.api.vectors import Vectors
from patchboard.report.run_files import read_json, read_optional, read_table


class RunTables:
    """A run's spec, tables and vectors, by its folder."""

    def __init__(self, path: Path):
        self.path = path

    @cached_property
    def study(self) -> Study:
        """The spec that was run."""
        return load(self.path / "spec.yaml")

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """What identifies the run, and how it went: digest, versions, models, seeds, noise floor, fallbacks."""
        return read_json(self.path, "manifest.json")

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """For each intervention the best layer, chosen on one half of the queries, and its effect on the other half."""
        return read_json(self.path, "summary.json")

    @cached_property
    def effects(self) -> pl.DataFrame:
        """One row a task, cell and metric: ``clean, patched, effect, ci_low, ci_high`` in the metric's unit, ``n``."""
        return read_table(self.path, "effects.parquet")

    @cached_property
    def curves(self) -> pl.DataFrame:
        """As ``effects``, pooled over tasks: every query of every task weighs the same."""
        return read_table(self.path, "curves.parquet")

    @cached_property
    def outcomes(self) -> pl.DataFrame:
        """One row a query, cell and metric: ``clean`` and ``patched``. Long; ``pl.scan_parquet`` reads parts of it."""
        return read_table(self.path, "outcomes.parquet")

    @cached_property
    def decodability(self) -> pl.DataFrame:
        """Concept Decodability by task, layer and number of shots: ``cd, ci_low, ci_high, chance``, all fractions.

        Where the spec has them also its floors: ``twin``, ``above_twin``, ``shuffled``, each with ``…_low, …_high``.
        """
        return read_table(self.path, "decodability.parquet")

    @cached_property
    def probes(self) -> pl.DataFrame:
        """Accuracy of probes by task, layer and number of shots, beside the control task's (``shuffled``) and that of
        ``random_features``: all fractions. No rows where the spec has none."""
        return read_optional(self.path, "probes", self.summary)

    @cached_property
    def guardedness(self) -> pl.DataFrame:
        """What fresh probes find after interventions that erase, by edited and probed layer: ``accuracy`` beside
        ``unablated`` and ``chance``, fractions. No rows where the spec does not ask."""
        return read_optional(self.path, "guardedness", self.summary)

    @cached_property
    def screen(self) -> pl.DataFrame:
        """Estimates of all screened cells, and which of them were run: ``estimate, ci_low, ci_high, rank, chosen``. No
        rows where the spec has no screen."""
        return read_optional(self.path, "screen", self.summary)

    @cached_property
    def texts(self) -> pl.DataFrame:
        """What the model wrote behind evaluated prompts, ``clean_text`` and ``edited_text`` beside each other, with the
        perplexity and repetition of each. No rows where the spec has no ``generate``."""
        return read_optional(self.path, "texts", self.summary)

    @cached_property
    def features(self) -> pl.DataFrame:
        """Which features of dictionaries the edits are of, and how active they are on the fit prompts: ``mean_first,
        mean_second, rate, largest``. No rows where no edit is of any."""
        return read_optional(self.path, "features", self.summary)

    @cached_property
    def learned(self) -> pl.DataFrame:
        """What the vectors that are learned do on the held-out pairs of the fit half, by step: ``training_loss,
        held_out_loss, held_out_accuracy, rank``; ``chosen`` is the step whose vector is kept. No rows where none is."""
        return read_optional(self.path, "learned", self.summary)

    @cached_property
    def top_tokens(self) -> pl.DataFrame:
        """The likeliest next tokens of the queries that the page shows, in the clean run and in each cell: ``tokens,
        logprobs`` (nats), and the answer's ``answer_rank``. No rows where the spec has no ``outcomes.top_tokens``."""
        return read_optional(self.path, "top_tokens", self.summary)

    @cached_property
    def prompts(self) -> pl.DataFrame:
        """Every prompt with its answer, as text and as token ids; ``role`` is evaluate, fit or decodability."""
        return read_table(self.path, "prompts.parquet")

    @cached_property
    def vectors(self) -> Vectors:
        """The fitted vectors, by intervention, layer and task."""
        return Vectors(self.path)
