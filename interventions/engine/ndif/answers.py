"""A job's answer as it came home: opened without running code, and held against what was asked."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import zstandard

from patchboard.engine.ndif.jobs import Job, slots_of
from patchboard.plan.shown import shown_copies


class BadAnswer(Exception):
    """An answer that is cut off, garbled, or another job's."""


@dataclass(frozen=True)
class Answer:
    """What one job brought.

    scores: metric -> [answer] of all its packs, in their order; but for accuracy, of own tasks' answers only.
    top: as ``engine.top_tokens`` gives it, flat, of all packs; None where none are kept. moved [slot]. votes [layer,
    shots, point] and hits [point, shots] of its decoding. facts: served dtype, device,
    torch version, lacking tasks, and what noise was measured in, where there is some.
    """

    scores: dict[str, np.ndarray]
    top: dict[str, np.ndarray] | None
    moved: torch.Tensor
    votes: np.ndarray | None
    hits: np.ndarray | None
    finite: bool
    vectors: dict[str, Any]
    facts: dict[str, Any]


def opened_answer(content: bytes, job: Job, answers: int, own: int, kept: int = 0, vocab: int = 0) -> Answer:
    """answers: scored ones of all its packs; own: those of the prompts' own tasks; kept: those of which the likeliest
    tokens of so large a vocabulary are. Raises BadAnswer."""
    saved = _loaded(content)
    if saved.get("key") != job.key:
        raise BadAnswer(f"its key is {saved.get('key')}, expected {job.key}")
    try:
        answer = _answer(saved)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise BadAnswer(f"lacks {error}") from error
    if job.packs:
        sizes = {name: len(values) for name, values in answer.scores.items()}
        right = sizes.pop("accuracy", -1) == answers and set(sizes.values()) == {own}
        if not right or len(answer.moved) != len(slots_of(job)):
            raise BadAnswer(f"has {sorted(set(sizes.values()))} scores a metric, expected {own}")
    shown = [group.top_tokens for group, _ in job.packs if shown_copies(group)]
    if shown:
        _check_top(answer.top or {}, kept, shown[0], vocab)
    if job.decoding and answer.finite and (answer.votes is None or len(answer.votes) != len(job.layers)):
        raise BadAnswer(f"has no votes for its {len(job.layers)} layers")
    return answer


def _check_top(top: dict[str, np.ndarray], kept: int, count: int, vocab: int) -> None:
    """Raises BadAnswer. count: tokens of each distribution."""
    sizes = {name: values.size for name, values in top.items()}
    expected = {"ids": kept * count, "logprobs": kept * count, "answer": kept, "rank": kept}
    if sizes != expected:
        raise BadAnswer(f"has {sizes} numbers of likeliest tokens, expected {expected}")
    for name, low, high in (("ids", 0, vocab - 1), ("rank", 1, vocab)):
        if kept and (top[name].min() < low or top[name].max() > high):
            what = f"{top[name].min()} to {top[name].max()}"
            raise BadAnswer(f"has {name} of tokens of {what}, expected {low} to {high}")


def _loaded(content: bytes) -> dict[str, Any]:
    try:
        raw = zstandard.ZstdDecompressor().decompress(content, max_output_size=1 << 31)
        # nothing but tensors and plain data can come in: a host need not be trusted with running code here
        loaded = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # zstandard, zipfile and the unpickler each have their own
        raise BadAnswer(f"cannot be read ({type(error).__name__})") from error
    saved = loaded.get("answer") if isinstance(loaded, dict) else None
    if not isinstance(saved, dict):
        raise BadAnswer("holds no answer")
    return saved


def _answer(saved: dict[str, Any]) -> Answer:
    scores = {name: floats_of(planes) for name, planes in saved.get("scores", {}).items()}
    top = {name: values_of(planes, _KINDS[name]) for name, planes in saved.get("top", {}).items()}
    if "hits_of_packs" in saved:
        scores["accuracy"] = saved["hits_of_packs"].numpy().astype(np.float32)
    return Answer(
        scores=scores,
        top=top or None,
        moved=saved.get("moved", torch.zeros(0)).double(),
        votes=saved["votes"].numpy() if "votes" in saved else None,
        hits=saved["hits"].numpy().astype(bool) if "hits" in saved else None,
        finite=bool(saved.get("finite", True)) and bool(saved["fits_finite"]),
        vectors=saved.get("vectors", {}),
        facts={name: saved[name] for name in ("dtype", "device", "torch", "autocast", "lacking")}
        | ({"embedding_sd": float(saved["embedding_sd"])} if "embedding_sd" in saved else {}),
    )


_KINDS = {"ids": torch.int32, "rank": torch.int32, "logprobs": torch.float32, "answer": torch.float32}


def floats_of(planes: torch.Tensor) -> np.ndarray:
    """uint8 [4, n] -> float32 [n]."""
    return values_of(planes, torch.float32)


def values_of(planes: torch.Tensor, kind: torch.dtype) -> np.ndarray:
    """``job_body.byte_planes`` undone: uint8 [4, n] -> [n] numbers of four bytes."""
    return planes.T.contiguous().view(kind).reshape(-1).numpy()
