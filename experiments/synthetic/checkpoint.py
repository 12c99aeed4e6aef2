"""One checkpoint, examined: errors by pair, Concept Decodability by layer, and the study's cells, by the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchboard.embedded.tokenizer import build
from patchboard.engine.exactness import sample
from patchboard.engine.local import LocalEngine
from patchboard.engine.memory import budget_for
from patchboard.errors import EngineError
from patchboard.experiments.synthetic.model import Regressor
from patchboard.experiments.synthetic.questions import Questions
from patchboard.experiments.synthetic.settings import METRIC
from patchboard.measure.decodability import check_k, decodability_table, label_codes
from patchboard.measure.nearest import voted
from patchboard.measure.outcomes import answer_table, outcome_rows, outcome_schema
from patchboard.measure.scored_group import gather_scores
from patchboard.measure.statistics import Bootstrap, interval
from patchboard.plan.model import Group
from patchboard.plan.packs import packs_of
from patchboard.store.schema import DECODABILITY
from patchboard.tasks.linear_regression import Sequences, token_inputs
from patchboard.vectors.make import make_here

ERRORS: dict[str, pl.DataType] = {
    "task": pl.String(),
    "pair": pl.Int32(),  # whose y is predicted, from 1, after pair - 1 demonstrations; null: the mean over all
    "error": pl.Float64(),  # squared error, mean over sequences
    "ci_low": pl.Float64(),
    "ci_high": pl.Float64(),
    "n": pl.Int32(),  # sequences
}
_TOLERANCE = 1e-3
"""Squared error: fifty times what sums in another order made of it on a trained model."""


@dataclass(frozen=True)
class Measures:
    """Tables of one checkpoint: ERRORS, store.schema.DECODABILITY, OUTCOMES with the swept fields, each with ``step``.

    drift: largest change of a squared error by patching states with themselves (the noise floor): the last token's in
    the middle block, and all ``self`` cells.
    """

    errors: pl.DataFrame
    decodability: pl.DataFrame
    outcomes: pl.DataFrame
    drift: float


class CheckpointEngine:
    """Asks a model what was planned. The model's weights may change between two examinations."""

    def __init__(self, model: Regressor, questions: Questions, bootstrap: Bootstrap, engine_kind: str):
        self.model, self.questions, self.bootstrap, self.engine_kind = model, questions, bootstrap, engine_kind
        self.table = torch.from_numpy(questions.table).to(model.device)
        budget = budget_for(questions.plan.facts, (model.device,), 4)
        # nnsight wants a tokenizer, whichever; nothing here is text
        self.engine = LocalEngine(model.language, build(), budget, lambda tokens: model.read_in(self.table[tokens]))

    def squared_error(self, logits: Tensor, target: Tensor, foil: Tensor, clean: Tensor) -> Tensor:
        """(predicted y - y)^2 [read]: the one "logit" of a read is the prediction, its target a row of the table."""
        return (logits[:, 0] - self.table[target, -1]).square()

    def measure(self, step: int) -> Measures:
        """Raises EngineError where packed and row-by-row cells differ, or a value is not finite."""
        errors = pl.concat(
            error_table(drawn.task, self.errors(drawn), self.bootstrap) for drawn in self.questions.tests
        )
        if not errors["error"].is_finite().all():
            raise EngineError(f"step {step}", "the model's error is not a number", "lower training.learning_rate")
        outcomes, drift = self._outcomes(step)
        numbered = pl.lit(step, pl.Int64).alias("step")
        return Measures(
            errors.select(numbered, pl.all()), self._decodability().select(numbered, pl.all()), outcomes, drift
        )

    @torch.no_grad()
    def errors(self, drawn: Sequences) -> NDArray[np.float64]:
        """Squared errors [sequence, pair]."""
        tokens = torch.from_numpy(token_inputs(drawn.x, drawn.y)).to(self.model.device)
        at_once = max(1, self.engine.budget.tokens // tokens.shape[1])
        predicted = torch.cat([self.model.predictions(some) for some in tokens.split(at_once)])
        return np.square(predicted.double().cpu().numpy() - drawn.y.astype(np.float64))

    def _decodability(self) -> pl.DataFrame:
        if not self.questions.plan.decodings:
            return pl.DataFrame(schema=DECODABILITY)
        (decoding,) = self.questions.plan.decodings
        check_k(decoding.section.k, sum(map(len, decoding.prompts.values())))
        kept: list[Tensor] = []
        _, labels = self.engine.decode(decoding, kept.append, score=self.squared_error)
        states = torch.cat(kept)  # [point, layer, shots, d_model]
        codes = torch.from_numpy(label_codes(labels))
        votes = [
            [voted(states[:, layer, s], codes, decoding.section.k).numpy() for s in range(states.shape[2])]
            for layer in range(states.shape[1])
        ]
        return decodability_table(
            np.array(votes), labels, None, decoding.section.shots, decoding.section.k, self.bootstrap
        )

    def _outcomes(self, step: int) -> tuple[pl.DataFrame, float]:
        plan = self.questions.plan
        statistics = self.engine.fit(plan.fits, score=_all_right)
        operands = self.engine.place(make_here(plan.recipes, statistics, self.engine.projected))
        groups = [_at_step(group, step) for group in plan.groups]
        if self.engine_kind != "rows" and groups:
            self._check(groups[0], operands)
        schema, pieces, drift = outcome_schema(groups), [], 0.0
        for group in groups:
            scored = gather_scores(group, self._scores(group, operands))
            clean, unmoved = scored.values[METRIC][:, 0], scored.values[METRIC][:, group.noise_copy]
            drift = max(drift, float(np.abs(unmoved - clean).max()))
            pieces += outcome_rows(scored, schema)
        outcomes = pl.concat(pieces) if pieces else pl.DataFrame(schema=schema)
        own = outcomes.filter(pl.col("control") == "self").select((pl.col("patched") - pl.col("clean")).abs().max())
        return outcomes, max(drift, own.item() or 0.0)

    def _scores(self, group: Group, operands: Mapping[str, Any]) -> Iterator[pl.DataFrame]:
        for pack in packs_of(group, self.questions.plan.facts, self.engine_kind, self.engine.budget):
            scores = self.engine.score_pack(group, pack, operands, {METRIC: self.squared_error})
            yield answer_table(scores.prompt, scores.copy, scores.scores, scores.moved)

    def _check(self, group: Group, operands: Mapping[str, Any]) -> None:
        """Some cells as whole rows too. Raises EngineError where sharing sequences changed them."""
        both = [
            self.engine.score_pack(
                group, sample(group, self.engine.budget, engine_kind), operands, {METRIC: self.squared_error}
            )
            for engine_kind in ("rows", "wavefront")
        ]
        by = float(np.abs(both[0].scores[METRIC] - both[1].scores[METRIC]).max(initial=0.0))
        if not by <= _TOLERANCE:
            what = f"cells that share a sequence differ from rows by {by:.1e} on a sample, more than {_TOLERANCE:.0e}"
            raise EngineError("--engine", what, "use --engine rows")


def _all_right(logits: Tensor, target: Tensor, foil: Tensor, clean: Tensor) -> Tensor:
    """[read] 1: no number is predicted exactly, so ``only: correct`` keeps every fit sequence."""
    return torch.ones_like(logits[:, 0])


def _at_step(group: Group, step: int) -> Group:
    uses = [replace(use, cell=replace(use.cell, swept=(("step", step), *use.cell.swept))) for use in group.uses]
    return replace(group, uses=tuple(uses))


def error_table(task: str, errors: NDArray[np.float64], bootstrap: Bootstrap) -> pl.DataFrame:
    """errors [sequence, pair] -> ERRORS: a row a pair, and one of the mean over pairs."""
    values = np.column_stack([errors, errors.mean(1)])
    low, high = interval(values, bootstrap, [task] * len(values))
    pairs: Sequence[int | None] = [*range(1, values.shape[1]), None]
    columns = {"task": task, "pair": pairs, "error": values.mean(0), "ci_low": low, "ci_high": high, "n": len(values)}
    return pl.DataFrame(columns, schema=ERRORS)
