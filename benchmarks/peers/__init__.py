"""The sweep as users of other libraries write it from their documentation: one forward pass a layer and vector.

A module a library, each with two functions:

    load(folder) -> the library's model
    last_logits(model, tokenizer, batch) -> logits [query, vocab] of the last token, for each cell of the batch in order

None of them imports patchboard: their processes pay for what they need. A module may bear its library's name, since
``peers`` is a package: ``import nnsight`` within it is the library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FILE, VECTORS = "batches.json", "vectors.safetensors"


@dataclass(frozen=True)
class Batch:
    """The queries of one task, and what is to be put in place of their last token's state."""

    task: str
    prompts: list[str]
    answers: list[str]
    """Of one token each, with the blank before it."""
    layers: list[int]
    vectors: Tensor
    """[vector, layer, d_model], float32; the layers are those of ``layers``."""

    def cells(self) -> Iterator[tuple[int, Tensor]]:
        """(layer, vector [d_model]) in the order of the outcomes."""
        for of_layers in self.vectors:
            yield from zip(self.layers, of_layers, strict=True)


def write_batches(batches: list[Batch], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plain = [{name: value for name, value in asdict(batch).items() if name != "vectors"} for batch in batches]
    (folder / FILE).write_text(json.dumps(plain))
    save_file({batch.task: batch.vectors.contiguous() for batch in batches}, folder / VECTORS)


def read_batches(folder: Path) -> list[Batch]:
    vectors = load_file(folder / VECTORS)
    return [Batch(**plain, vectors=vectors[plain["task"]]) for plain in json.loads((folder / FILE).read_text())]


def outcomes(logits: Iterator[Tensor], tokenizer: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """The answers' log-probabilities (nats) and whether they are the most probable token: [vector, layer, query]."""
    answers = torch.tensor([ids[0] for ids in tokenizer(batch.answers, add_special_tokens=False).input_ids])
    queries = torch.arange(len(answers))
    logprobs, right = [], []
    for of_cell in logits:
        logprobs.append(of_cell.float().log_softmax(-1)[queries, answers])
        right.append(of_cell.argmax(-1) == answers)
    shape = (*batch.vectors.shape[:2], -1)
    return torch.stack(logprobs).view(shape), torch.stack(right).view(shape)
