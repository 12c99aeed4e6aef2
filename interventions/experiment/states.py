"""The states of a decodability run's prompts once more, which the run itself drops once their neighbours are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from patchboard.engine.device import devices_of
from patchboard.engine.load import load_weights, open_model
from patchboard.engine.local import LocalEngine
from patchboard.engine.memory import budget_for
from patchboard.plan.build import build_plans
from patchboard.spec import Study
from patchboard.store.states import StateFile

Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class States:
    """States before each answer, on disk, with the label of each point; shots: the numbers along that axis."""

    file: StateFile
    labels: tuple[str, ...]
    shots: tuple[int, ...]

    @property
    def layers(self) -> int:
        return self.file.shape[0]

    def at(self, layer: int, shots: int) -> Tensor:
        """[point, d_model] float32. shots: a number of demonstrations, one of ``self.shots``."""
        return torch.from_numpy(self.file.at(layer, self.shots.index(shots)).copy())


@contextmanager
def states_of(study: Study, parts: Path, device: str, tick: Tick) -> Iterator[States]:
    """The states of the study's only decoding, the same prompts as its run's; gone when the context is left.

    parts: folder with room for them. Raises PatchboardError as a run does.
    """
    (plan,) = build_plans(study, open_model)
    (decoding,) = plan.decodings
    tokenizer, _ = open_model(plan.section)
    model = load_weights(plan.section, device, plan.section.dtype)
    engine = LocalEngine(model, tokenizer, budget_for(plan.facts, devices_of(model), model.dtype.itemsize))
    total, done = sum(map(len, decoding.prompts.values())), 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        tick("states", done, total)

    with StateFile(parts) as file:
        _, labels = engine.decode(decoding, lambda states: file.add(states.numpy()), step)
        yield States(file, tuple(labels), tuple(decoding.section.shots))
