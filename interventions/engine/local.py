"""The local engine: a loaded model behind nnsight, and the three things that a plan asks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interventions.engine.batch import Batch, Capture, make_batch
from interventions.engine.device import device_of
from interventions.engine.families import architecture_of, head_dim_of
from interventions.engine.trace import traced_forward
from interventions.plan.layout import Layout, Read, Reads
from interventions.plan.model import Copy, Decoding, Fit, Group, Pack
from interventions.plan.packing import lay_out
from interventions.plan.packs import Budget
from interventions.plan.suffix import positions_of
from interventions.vectors.base import Place
from interventions.vectors.statistics import PlaceStatistics
from tasks.base import NULL
from tasks.prompts import Prompt

Scorer = Callable[..., Tensor]
Step = Callable[[int], None]
"""Told how many prompts were done, for a progress bar."""
Keep = Callable[[Tensor], None]
"""Given states of some prompts [point, layer, shots, d_model] float32: all of them may be too many to hold."""


@dataclass(frozen=True)
class PackScores:
    """Raw scores of one pack: one entry a read, with the prompt (index in the group) and copy it is of."""

    prompt: np.ndarray
    copy: np.ndarray
    token: np.ndarray  # place of the read in its answer
    scores: Mapping[str, np.ndarray]
    moved: Mapping[int, float]
    """Copy -> how far its edits moved any state (max abs over prompts)."""


class LocalEngine:
    """Runs layouts on a model in this process through nnsight traces."""

    def __init__(self, model: Any, tokenizer: Any, budget: Budget | None = None):
        with suppress(TypeError):  # nnsight mounts `save` on object; anyio must come first, or not at all
            import anyio._backends._asyncio  # noqa: F401
        from nnsight import TransformersModel

        self.module, self.budget = model, budget or Budget()
        self.token_layers = 0
        """Computed so far: tokens, padding left out, times the blocks that each went through."""
        self.architecture = architecture_of(model.config)
        self.window = getattr(model.config, "sliding_window", None) or 0
        self.dtype, self.device = model.dtype, device_of(model)
        self.traced = TransformersModel(model, tokenizer=tokenizer, task="text-generation")

    def forward(
        self,
        layout: Layout,
        operands: Mapping[str, Any],
        scorers: Mapping[str, Scorer],
        captures: Sequence[Capture] = (),
    ) -> tuple[Batch, dict[str, Any]]:
        batch = make_batch(layout, operands, self.device, captures)
        self.token_layers += layout.token_layers(self.module.config.num_hidden_layers)
        heads = getattr(self.module.config, "num_attention_heads", 0)  # a state-space model has none
        return batch, traced_forward(self.traced, self.architecture, self.window, heads, self.dtype, batch, scorers)

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
        inside = slice(pack.prompts.start, pack.prompts.stop)
        copies = [group.copies[c] for c in pack.copies]
        layout = lay_out(
            group.prompts[inside], group.foils[inside], copies, pack.way, group.prefix, pack.together,
            {source: prompts[inside] for source, prompts in group.donors.items()},
        )  # fmt: skip
        batch, found = self.forward(layout, operands, scorers)
        reads = layout.reads
        return PackScores(
            prompt=reads.prompt + pack.prompts.start,
            copy=np.array(pack.copies)[reads.copy],
            token=reads.token,
            scores={name: values.cpu().numpy() for name, values in found["scores"].items()},
            moved=_moved(batch, found["moved"], pack.copies),
        )

    def fit(self, fit: Fit, score: Scorer, step: Step = lambda _: None) -> dict[Place, PlaceStatistics]:
        """Statistics of the fit's prompts at each of its places; correctness by ``score`` (accuracy)."""
        found = {
            place: PlaceStatistics(fit.layers, self._width(place.site), fit.labels, fit.leace) for place in fit.places
        }
        for task, prompts in fit.prompts.items():
            for chunk in chunks([p for p in prompts if not p.excluded], self.budget.tokens):
                layout = lay_out(chunk, [-1] * len(chunk), [Copy()], "packed")
                captures = [self._mean_capture(chunk, place, fit.layers) for place in fit.places]
                _, result = self.forward(layout, {}, {"accuracy": score}, captures)
                right = _all_right(layout.reads, result["scores"]["accuracy"], len(chunk))
                for place, states in zip(fit.places, result["states"], strict=True):
                    stacked = torch.stack(states, 1).cpu()
                    seen = ~stacked.isnan().all(-1).all(-1)  # a prompt without the position has no state
                    found[place].update(task, stacked[seen], right[seen])
                step(len(chunk))
        return found

    def _width(self, site: str) -> int:
        """Of the states at a site: d_model, or all heads' parts side by side."""
        config = self.module.config
        return config.num_attention_heads * head_dim_of(config) if site == "head" else config.hidden_size

    def _mean_capture(self, prompts: Sequence[Prompt], place: Place, layers: tuple[int, ...]) -> Capture:
        rows, cols, group = [], [], []
        for i, prompt in enumerate(prompts):
            at = positions_of(prompt, place.position, len(prompt.token_ids) + len(prompt.answer_ids) - 1)
            rows += [i] * len(at)
            cols += at
            group += [i] * len(at)
        return self._capture(place.site, layers, rows, cols, group, len(prompts))

    def _capture(self, site: str, layers: tuple[int, ...], rows: list, cols: list, group: list, groups: int) -> Capture:
        def put(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.long, device=self.device)

        return Capture(site, layers, put(rows), put(cols), put(group), groups)

    def decode(
        self, decoding: Decoding, score: Scorer, keep: Keep, step: Step = lambda _: None
    ) -> tuple[np.ndarray, list[str]]:
        """Gives ``keep`` the states before every answer; returns accuracy [point, shots] (NaN for Null) and
        labels [point], in the order of the states.

        One pass a prompt serves all numbers of shots: the state before the i-th demonstration's answer
        is that of the i-shot prompt. Prompts are in label order, excluded ones left out.
        """
        layers = tuple(range(self.module.config.num_hidden_layers))
        shots = decoding.section.shots
        accuracy, labels = [], []
        for label, prompts in decoding.prompts.items():
            for chunk in chunks([p for p in prompts if not p.excluded], self.budget.tokens):
                layout = lay_out(chunk, [-1] * len(chunk), [Copy()], "packed")
                layout.reads = Reads.of(
                    [
                        read
                        for i, prompt in enumerate(chunk)
                        for j, s in enumerate(shots)
                        for read in _shot_reads(i, prompt, s, answer=i * len(shots) + j)
                    ]
                )
                places = [_before(prompt, s) for prompt in chunk for s in shots]
                rows = [i for i in range(len(chunk)) for _ in shots]
                capture = self._capture("resid_post", layers, rows, places, list(range(len(rows))), len(rows))
                _, result = self.forward(layout, {}, {"accuracy": score}, [capture])
                found = torch.stack(result["states"][0], 1).cpu()  # [prompt x shots, layer, d_model]
                keep(found.unflatten(0, (len(chunk), len(shots))).transpose(1, 2))
                right = _all_right(layout.reads, result["scores"]["accuracy"], len(rows))
                flags = right.view(len(chunk), len(shots)).numpy().astype(float)
                # a random answer is not a thing to get right
                accuracy.append(np.full_like(flags, np.nan) if label == NULL else flags)
                labels += [label] * len(chunk)
                step(len(chunk))
        return np.concatenate(accuracy), labels


def chunks(prompts: Sequence[Prompt], tokens: int) -> Iterator[Sequence[Prompt]]:
    """Prompts in batches of at most ``tokens`` tokens, padding counted."""
    start, widest = 0, 0
    for i, prompt in enumerate(prompts):
        width = max(widest, len(prompt.token_ids) + len(prompt.answer_ids))
        if i > start and width * (i - start + 1) > tokens:
            yield prompts[start:i]
            start, width = i, len(prompt.token_ids) + len(prompt.answer_ids)
        widest = width
    if start < len(prompts):
        yield prompts[start:]


def _moved(batch: Batch, moved: Sequence[Tensor], copies: Sequence[int]) -> dict[int, float]:
    """Copy (index in the group) -> how far its edits moved any state of any prompt."""
    far = np.full(len(copies), -1.0)
    for group, values in zip(batch.edits, moved, strict=True):
        np.fmax.at(far, group.copies, values.double().cpu().numpy())  # a NaN is told by its outcomes
    return {copies[c]: value for c, value in enumerate(far.tolist()) if value >= 0}


def _all_right(reads: Reads, scores: Tensor, count: int) -> Tensor:
    """[read] hits -> [answer] bool: every token right; a read's ``prompt`` says which answer it is of."""
    right = torch.ones(count, dtype=torch.bool)
    right[torch.from_numpy(reads.prompt)[scores.cpu() == 0]] = False
    return right


def _before(prompt: Prompt, shots: int) -> int:
    """The token before the answer of row ``shots``."""
    demos = prompt.positions["before_answers"]
    return demos[shots] if shots < len(demos) else prompt.last


def _shot_reads(row: int, prompt: Prompt, shots: int, answer: int) -> list[Read]:
    """Reads of every token of the answer in row ``shots``, entered as answer number ``answer``."""
    tokens = prompt.token_ids + prompt.answer_ids
    if shots < len(prompt.demo_answers):
        where = prompt.demo_answers[shots]
    else:
        where = tuple(range(len(prompt.token_ids), len(tokens)))
    return [Read(answer, 0, j, row, at - 1, tokens[at], -1, row, at - 1) for j, at in enumerate(where)]
