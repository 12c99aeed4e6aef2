"""What a job does where the model is: look, fit, patch, measure, search neighbours, and answer in few bytes.

These functions travel to the server as source, with what they call: ``trace``, ``steps``, the vectors' makers,
and the tools that the client hands over (ops, scorers, the search). They name torch and plain data only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from patchboard.engine.families import at_path
from patchboard.engine.noise import UNIT, embedding_sd
from patchboard.engine.projection import projected
from patchboard.engine.record import Record, opened
from patchboard.engine.steps import fill_statistics, largest_moves, states_and_hits, taken_over
from patchboard.engine.trace import traced_forward
from patchboard.engine.wiring import Wiring
from patchboard.vectors.make import make_all
from patchboard.vectors.statistics import PlaceStatistics


def answer_job(model: Any, job: dict[str, Any], tools: dict[str, Any]) -> dict[str, Any]:
    """The answer to one job, in plain tensors and numbers. model: the server's, an nnsight TransformersModel.

    job: as ``jobs.job_data`` makes it. tools: ``ops``, ``scorers`` (accuracy's among them) and ``combine`` by name,
    ``builders`` of vectors (as ``vectors.fitters`` gives them), ``combined`` (applies one of ``combine``), ``voted``.
    """
    h = first_states(model, job["architecture"])
    architecture = Record(**job["architecture"])
    wiring = Wiring(architecture, job["window"], job["head_slots"], job["head_dim"], job["neurons"], h.dtype)  # type: ignore[arg-type]

    def forward(batch: Any, operands: dict[str, Any], scorers: dict[str, Callable]) -> dict[str, Any]:
        return traced_forward(model, wiring, batch, operands, scorers, tools["ops"])

    def project(rows: dict[int, Tensor]) -> dict[int, Tensor]:
        return projected(model, wiring, {"input_ids": torch.ones(1, 1, dtype=torch.long)}, rows, h.device)

    def batch_of(sealed: Any) -> Any:
        return opened(sealed, h.device)

    answer: dict[str, Any] = {
        "key": job["key"], "dtype": str(h.dtype), "device": h.device.type, "torch": str(torch.__version__),
        "autocast": torch.is_autocast_enabled(h.device.type),
    }  # fmt: skip
    statistics = fit_statistics(forward, batch_of, job["fits"], tools["scorers"]["accuracy"])
    answer["fits_finite"] = all([one.is_finite() for one in statistics.values()])
    lacking = [task for key in job["only_correct"] for task in statistics[tuple(key)].lacks_correct()]
    answer["lacking"] = sorted(set(lacking))
    recipes = {key: recipe_of(recipe) for key, recipe in job["recipes"].items()}
    operands = make_all(recipes, statistics, project, *tools["builders"])  # type: ignore[arg-type]
    if job["packs"]:
        placed = {key: operand.to(h.device) for key, operand in operands.items()}
        if job["noise"]:
            embedding, vocab = job["noise"]
            unit = embedding_sd(model, wiring, embedding, vocab, h.device)
            placed[UNIT] = unit
            answer["embedding_sd"] = float(unit)
        answer.update(score_packs(forward, batch_of, job, placed, tools))
    if job["decoding"]:
        answer.update(decode(forward, batch_of, job["decoding"], tools["scorers"]["accuracy"], tools["voted"]))
    if job["bring_vectors"]:
        answer["vectors"] = {key: vars(one) if hasattr(one, "center") else one for key, one in operands.items()}
    return answer


def recipe_of(data: dict[str, Any]) -> Record:
    """A recipe, with the tensors that came along where it is of a file."""
    recipe = Record(**data)
    recipe.given = None if data["given"] is None else opened(data["given"], "cpu")  # type: ignore[attr-defined]
    return recipe


def first_states(model: Any, architecture: dict[str, Any]) -> Tensor:
    """What enters the first block in a forward pass of one token: it tells the served dtype and the device."""
    decoder = at_path(model, architecture["decoder"])
    block = at_path(decoder, architecture["blocks"])[0]
    with torch.no_grad(), model.trace({"input_ids": torch.ones(1, 1, dtype=torch.long)}, use_cache=False):
        h = block.input.save()
    return h


def fit_statistics(
    forward: Callable, batch_of: Callable, fits: list[dict[str, Any]], score: Callable
) -> dict[tuple, PlaceStatistics]:
    """Statistics of each fit (by its id) at each of its places."""
    statistics: dict[tuple, PlaceStatistics] = {}
    right: dict[str, dict[str, Tensor]] = {}
    for fit in fits:
        own = [PlaceStatistics(fit["layers"], fit["labels"], fit["keep_states"]) for _ in fit["places"]]
        batches = ((task, count, batch_of(sealed)) for task, count, sealed in fit["batches"])
        right[fit["id"]] = fill_statistics(forward, batches, score, own, taken_over(right, fit["judge"]))
        statistics.update({(fit["id"], tuple(place)): one for place, one in zip(fit["places"], own, strict=True)})
    return statistics


def score_packs(
    forward: Callable, batch_of: Callable, job: dict[str, Any], operands: dict[str, Any], tools: dict[str, Any]
) -> dict[str, Any]:
    """Of all packs one after the other: ``scores`` metric -> bytes [4, own task's answer] (``byte_planes``),
    ``hits_of_packs`` [answer], ``moved`` [slot] float32; ``top`` as ``top_tokens`` gives it, in bytes as the scores."""
    scorers = tools["scorers"]
    top: dict[str, list[Tensor]] = {}
    parts: dict[str, list[Tensor]] = {name: [] for name in scorers}
    moved = torch.full((job["slots"],), -1.0, dtype=torch.float64)
    structures = [
        (batch_of(structure), opened(starts, "cpu").numpy(), opened(own, "cpu"), opened(slots, "cpu"))
        for structure, starts, own, slots in job["structures"]
    ]
    for number, (tokens, targets, foils, queries) in job["packs"]:
        batch, starts, own, slots = structures[number]
        batch.tokens, batch.targets, batch.foils = batch_of(tokens), batch_of(targets), batch_of(foils)
        batch.queries = batch_of(queries)
        result = forward(batch, operands, scorers)
        for name, values in result["scores"].items():
            answers = torch.from_numpy(tools["combined"](tools["combine"][name], values.float().cpu().numpy(), starts))
            parts[name].append(answers if name == "accuracy" else answers[own])
        for name, values in result.get("top", {}).items():
            kind = torch.float32 if values.is_floating_point() else torch.int32
            top.setdefault(name, []).append(values.cpu().to(kind))
        far = largest_moves(batch, result["moved"])
        moved.scatter_reduce_(0, slots[: len(far)], far, "amax")
    return {
        "scores": {name: byte_planes(torch.cat(parts[name])) for name in parts if name != "accuracy"},
        "hits_of_packs": torch.cat(parts["accuracy"]).to(torch.uint8),
        "moved": moved.float(),
        "top": {name: byte_planes(torch.cat(each)) for name, each in top.items()},
    }


def byte_planes(values: Tensor) -> Tensor:
    """n numbers, float32 or int32, as uint8 [4, n], lowest bytes first: side by side the bytes of signs and exponents
    compress."""
    return values.contiguous().view(torch.uint8).reshape(-1, 4).T.contiguous()


def decode(
    forward: Callable, batch_of: Callable, decoding: dict[str, Any], score: Callable, voted: Callable
) -> dict[str, Any]:
    """``votes`` [layer, shots, point] int16 and ``hits`` [point, shots] uint8; ``finite``: whether all states were."""
    states, hits, labels = [], [], []
    for code, count, sealed in decoding["batches"]:
        h, right = states_and_hits(forward, batch_of(sealed), count, decoding["shots"], score)
        states.append(h)
        hits.append(right)
        labels += [code] * count
    finite = all([bool(h.isfinite().all()) for h in states])
    codes = torch.tensor(labels, dtype=torch.long)
    votes = [
        torch.stack(
            [
                voted(torch.cat([h[:, layer, s] for h in states]).float(), codes, decoding["k"])
                for s in range(decoding["shots"])
            ]
        )
        for layer in range(states[0].shape[1] if finite else 0)
    ]
    return {
        "votes": torch.stack(votes).to(torch.int16) if votes else torch.zeros(0, dtype=torch.int16),
        "hits": torch.cat(hits).to(torch.uint8),
        "finite": finite,
    }
