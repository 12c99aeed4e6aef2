"""The local engine: a loaded model behind nnsight, and the three things that a plan asks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchboard.engine.batch import Batch, Capture, make_batch, on_device
from patchboard.engine.batches import decoding_batches, fit_batches, judge_of
from patchboard.engine.block_sparse import BlockSparse, is_block_sparse
from patchboard.engine.device import device_of
from patchboard.engine.later import tokens_of, unedited_runs
from patchboard.engine.nnsight_model import embedding_of, import_nnsight, wiring_of
from patchboard.engine.noise import UNIT, embedding_sd
from patchboard.engine.pack_scores import PackScores, pack_layout, pack_scores
from patchboard.engine.pattern import tokens_probed
from patchboard.engine.projection import projected
from patchboard.engine.steps import fill_statistics, largest_moves, states_and_hits, taken_over
from patchboard.engine.trace import traced_forward
from patchboard.errors import ModelError
from patchboard.metrics.accuracy import Accuracy
from patchboard.ops import OPS
from patchboard.plan.layout import Layout
from patchboard.plan.model import Decoding, Fit, Group, Pack
from patchboard.plan.packing import Templates
from patchboard.plan.packs import Budget
from patchboard.tasks.base import NULL
from patchboard.vectors.base import Place
from patchboard.vectors.statistics import PlaceStatistics

Scorer = Callable[..., Tensor]
Step = Callable[[int], None]
"""Told how many prompts were done, for a progress bar."""
Embed = Callable[[Tensor], Tensor]
"""Token ids [batch, seq] on the model's device -> what enters the first block for them [batch, seq, d_model]."""
Keep = Callable[[Tensor], None]
"""Given states of some prompts [point, layer, shots, d_model] float32: all of them may be too many to hold."""


@dataclass(frozen=True)
class _LaidOut:
    """Templates of packs, and what such packs share."""

    group: Group | None = None
    copies: Sequence[int] = ()
    way: str = ""
    templates: Templates = field(default_factory=Templates)

    def is_of(self, group: Group, pack: Pack) -> bool:
        return self.group is group and (self.copies, self.way) == (pack.copies, pack.way)


class LocalEngine:
    """Runs layouts on a model in this process through nnsight traces.

    embed: of a model of continuous inputs, whose prompts' token ids are places in a table of them.
    """

    def __init__(self, model: Any, tokenizer: Any, budget: Budget | None = None, embed: Embed | None = None):
        nnsight = import_nnsight()
        self.module, self.embed = model, embed
        self.token_layers = 0
        """Computed so far: tokens, padding left out, times the blocks that each went through."""
        self.sampled = 0
        """Of these, those of the samples by which it was chosen how cells are computed."""
        self.dtype, self.device = model.dtype, device_of(model)
        self.wiring = wiring_of(model.config, model.dtype)
        able = self.wiring.architecture.sparse and model.config._attn_implementation == "sdpa"
        self.budget = budget or Budget(sparse=able, streamed=True)
        self.sparse = able and self.budget.sparse
        """Whether packs are spared the pairs of tokens of which none may see the other (``block_sparse``)."""
        self.traced = nnsight.TransformersModel(model, tokenizer=tokenizer, task="text-generation")
        self._noise_unit: Tensor | None = None
        self._laid_out = _LaidOut()
        """Of the last pack: packs of the same group, copies and way follow each other."""

    def forward(
        self,
        layout: Layout,
        operands: Mapping[str, Any],
        scorers: Mapping[str, Scorer],
        captures: Sequence[Capture] = (),
        graded: bool = False,
    ) -> tuple[Batch, dict[str, Any]]:
        """graded: as of ``traced_forward``. Raises ModelError where the layout is packed and the family takes no mask:
        it would drop it in silence."""
        family = self.wiring.architecture
        if layout.packed and not family.packs:
            what = f"this model of family '{family.model_type}' cannot be packed"
            raise ModelError("--engine", what, "use --engine rows or auto")
        batch = make_batch(layout, captures)
        return batch, self._pass(batch, operands, scorers, graded=graded)

    def step(
        self, batch: Batch, operands: Mapping[str, Any], scorers: Mapping[str, Scorer], cache: Mapping[str, Any]
    ) -> dict[str, Any]:
        """A pass that goes on from the sequences in ``cache``, as ``traced_forward`` takes it."""
        return self._pass(batch, operands, scorers, cache)

    def _pass(
        self, batch: Batch, operands: Mapping[str, Any], scorers: Mapping[str, Scorer],
        cache: Mapping[str, Any] | None = None, graded: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        layers = self.module.config.num_hidden_layers
        before = tokens_of(unedited_runs(batch)) + tokens_probed(batch, self.wiring.head_dim)
        self.token_layers += batch.token_layers(layers) + before * layers
        ops = {name: op.apply for name, op in OPS.items()}
        if any(group.seeds is not None for group in batch.edits):
            operands = {**operands, UNIT: self.noise_unit()}
        placed = on_device(batch, self.device)
        if self.embed is not None:
            with torch.no_grad():
                placed = replace(placed, embeds=self.embed(placed.tokens))
        sparse = BlockSparse(placed) if self.sparse and not graded and is_block_sparse(placed) else None
        streamed = self.budget.streamed and not graded and cache is None
        return traced_forward(self.traced, self.wiring, placed, operands, scorers, ops, cache, graded, sparse, streamed)

    def noise_unit(self) -> Tensor:
        """What noise is measured in, as ``embedding_sd`` gives it. Raises ModelError for a model of continuous inputs,
        which embeds no tokens."""
        if self.embed is not None:
            what = "noise is measured in token embeddings, and this model's inputs are no tokens"
            raise ModelError("interventions", what, "leave it out")
        if self._noise_unit is None:
            vocab, path = self.module.config.vocab_size, embedding_of(self.module)
            self._noise_unit = embedding_sd(self.traced, self.wiring, path, vocab, self.device)
        return self._noise_unit

    def release(self) -> None:
        """Give cached memory back to the device, after a pass that did not fit."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def place(self, operands: Mapping[str, Any]) -> dict[str, Any]:
        """The same operands on the model's device, float32."""
        return {key: operand.to(self.device) for key, operand in operands.items()}

    def score_pack(
        self, group: Group, pack: Pack, operands: Mapping[str, Any], scorers: Mapping[str, Scorer]
    ) -> PackScores:
        """One pack's reads. operands: as ``place`` gives them."""
        if not self._laid_out.is_of(group, pack):
            self._laid_out = _LaidOut(group, pack.copies, pack.way)
        layout = pack_layout(group, pack, self._laid_out.templates)
        batch, result = self.forward(layout, operands, scorers)
        scores = {name: values.cpu().numpy() for name, values in result["scores"].items()}
        return pack_scores(pack, layout, scores, largest_moves(batch, result["moved"]), result.get("top"))

    def fit(
        self, fits: Sequence[Fit], step: Step = lambda _: None, score: Scorer = Accuracy.score
    ) -> dict[tuple[str, Place], PlaceStatistics]:
        """Statistics of each fit's prompts (by its id) at each of its places. score: by which an answer is right."""
        statistics: dict[tuple[str, Place], PlaceStatistics] = {}
        right: dict[str, dict[str, Tensor]] = {}

        def stepped(fit: Fit) -> Iterator[tuple[str, int, Batch]]:
            for task, count, batch in fit_batches(fit, self.budget.at_once):
                yield task, count, batch
                step(count)

        for fit in fits:
            own = [PlaceStatistics(fit.layers, fit.labels, fit.keep_states) for _ in fit.places]
            judged = taken_over(right, judge_of(fit, fits))
            right[fit.id] = fill_statistics(self._pass, stepped(fit), score, own, judged)
            statistics |= {(fit.id, place): one for place, one in zip(fit.places, own, strict=True)}
        return statistics

    def answered(self, fit: Fit, score: Scorer = Accuracy.score) -> dict[str, Tensor]:
        """Task -> [usable prompt] bool, which of a fit's prompts are answered rightly."""
        return fill_statistics(self._pass, fit_batches(replace(fit, places=()), self.budget.at_once), score, [], None)

    def projected(self, rows: dict[int, Tensor]) -> dict[int, Tensor]:
        """Block -> rows of heads' outputs through its output projection, as ``vectors.function.Project`` says."""
        token = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        if self.embed is None:
            return projected(self.traced, self.wiring, {"input_ids": token}, rows, self.device)
        with torch.no_grad():
            states = self.embed(token)
        return projected(self.traced, self.wiring, {"inputs_embeds": states}, rows, self.device)

    def decode(
        self, decoding: Decoding, keep: Keep, step: Step = lambda _: None, score: Scorer = Accuracy.score
    ) -> tuple[np.ndarray, list[str]]:
        """Gives ``keep`` the states before every answer; returns accuracy [point, shots] (NaN for Null) and
        labels [point], in the order of the states: label order, excluded prompts left out."""
        layers = range(self.module.config.num_hidden_layers)
        accuracy, labels = [], []
        for label, count, batch in decoding_batches(decoding, layers, self.budget.at_once):
            states, right = states_and_hits(self._pass, batch, count, len(decoding.section.shots), score)
            keep(states)
            accuracy.append(exact_match(label, right.numpy()))
            labels += [label] * count
            step(count)
        return np.concatenate(accuracy), labels


def exact_match(label: str, right: np.ndarray) -> np.ndarray:
    """right [point, shots] bool as float; NaN for Null: a random answer is not a thing to get right."""
    return np.full(right.shape, np.nan) if label == NULL else right.astype(float)
