"""A finished run's sweep as the peers are given it and give it back, and how far two of them are apart."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import peers
import polars as pl
import torch
from torch import Tensor

import patchboard as pb

CONTROLS = ("", "other_task", "random")
"""The vectors, as our results call them, in the order of the peers' outcomes; the first is the intervention itself."""

Outcomes = dict[str, Tensor]
"""TASK/logprob and TASK/right -> [vector, layer, query]."""


def our_outcomes(run: pb.Run, every: int = 1) -> Outcomes:
    """A finished run's, as the peers give theirs. every: as in ``batches_of``."""
    found = {}
    for metric, name in (("logprob", "logprob"), ("accuracy", "right")):
        rows = run.outcomes.filter(pl.col("layer") % every == 0, metric=metric).sort("layer", "query")
        for task in rows["task"].unique(maintain_order=True):
            of_task = [rows.filter(task=task, control=control) for control in CONTROLS]
            layers = of_task[0]["layer"].n_unique()
            values = [torch.from_numpy(some["patched"].to_numpy().copy()).view(layers, -1) for some in of_task]
            found[f"{task}/{name}"] = torch.stack(values)
    return found


def batches_of(run: pb.Run, every: int = 1) -> list[peers.Batch]:
    """The run's prompts and fitted vectors, for the peers. every: 5 for every fifth layer."""
    found = []
    for (task,), rows in run.prompts.filter(role="evaluate").sort("query").group_by("task", maintain_order=True):
        if any(len(ids) != 1 for ids in rows["answer_ids"]):
            sys.exit(f"error: {task}: answers of several tokens, expected one; give --pairs with answers of one")
        cells = run.effects.filter(pl.col("layer") % every == 0, task=task, metric="logprob").sort("layer")
        vectors = []
        for control in CONTROLS:
            used = cells.filter(control=control).select("intervention", "layer", "vector_task").rows()
            vectors.append(torch.stack([run.vectors[key] for key in used]))
        layers = cells.filter(control="")["layer"].to_list()
        answers = [f" {answer}" for answer in rows["answer"]]
        found.append(peers.Batch(str(task), rows["text"].to_list(), answers, layers, torch.stack(vectors)))
    return found


def difference(found: Outcomes, expected: Outcomes) -> dict[str, float]:
    """The largest difference of a log-probability (nats), and how many exact matches differ."""
    pairs = [(name, found[name], values) for name, values in expected.items()]
    return {
        "nats": max((a - b).abs().max().item() for name, a, b in pairs if name.endswith("/logprob")),
        "flips": sum(int((a.bool() != b.bool()).sum()) for name, a, b in pairs if name.endswith("/right")),
        "of": sum(b.numel() for name, _, b in pairs if name.endswith("/right")),
    }


def with_short_answers(files: list[Path], tokenizer: Any, folder: Path) -> list[str]:
    """The pairs whose answer is one token of the model, in files of the same names: peers read one token."""
    written = []
    for file in files:
        answers = json.loads(file.read_text()).items()
        short = {query: answer for query, answer in answers if len(tokenizer(f" {answer}").input_ids) == 1}
        (folder / file.name).write_text(json.dumps(short))
        written.append(str(folder / file.name))
    return written
