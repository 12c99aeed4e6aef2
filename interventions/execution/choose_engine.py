"""How a model's cells are computed: as asked for, or by wavefront where that equals whole rows on a sample of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from patchboard.engine.exactness import TOLERANCE, difference, sample
from patchboard.engine.local import LocalEngine
from patchboard.errors import EngineError, ModelError
from patchboard.metrics import METRICS
from patchboard.plan.model import Group, ModelPlan, Pack
from patchboard.plan.packs import Budget
from patchboard.vectors.base import Operand


@dataclass(frozen=True)
class EngineChoice:
    """engine: as ``plan.packs.packs_of`` takes it. fallback: a note, where it is not what was hoped for."""

    engine: str
    reason: str
    fallback: str = ""


def choose_engine(
    plan: ModelPlan, engine: LocalEngine, operands: Mapping[str, Operand], requested: str
) -> EngineChoice:
    """requested: as ``--engine`` has it. operands: as ``LocalEngine.place`` gives them.

    Raises EngineError where what was asked for is not exact on this model, ModelError where it is not possible.
    """
    choice = choice_without_sample(plan, requested)
    if choice:
        return choice
    before = engine.token_layers
    scorers = {"logprob": METRICS.get("logprob", "metrics").score}
    shared, rows = (
        engine.score_pack(group, pack, operands, scorers)
        for group, pack in sample_packs(plan, requested, engine.budget)
    )
    engine.sampled += engine.token_layers - before
    return choice_by_difference(plan.facts.family, requested, difference(shared, rows), str(engine.dtype))


def choice_without_sample(plan: ModelPlan, requested: str) -> EngineChoice | None:
    """The choice where no sample is needed for it. Raises ModelError."""
    family = plan.facts.family
    if requested == "rows" or not plan.groups:
        return EngineChoice("rows", "rows: asked for")
    if not plan.facts.packs:
        if requested != "auto":
            what = f"{requested} needs attention that takes a mask, {family} has none"
            raise ModelError("--engine", what, "use --engine auto or rows")
        return EngineChoice("rows", f"rows: this {family} has no attention that takes a mask made for copies")
    return None


def sample_packs(plan: ModelPlan, requested: str, budget: Budget) -> list[tuple[Group, Pack]]:
    """The same few cells by wavefront and as rows; none where no sample is needed."""
    if choice_without_sample(plan, requested):
        return []
    group = plan.groups[0]
    return [(group, sample(group, budget, kind)) for kind in ("wavefront", "rows")]


def choice_by_difference(family: str, requested: str, apart: float, dtype: str) -> EngineChoice:
    """apart: largest difference between wavefront and rows (nats) on the sample. Raises EngineError."""
    tolerance = TOLERANCE[dtype]
    if apart <= tolerance:
        how = "asked for" if requested == "wavefront" else f"each token is computed only where it can differ ({family})"
        # `auto` stays `auto`: rows where they are less work
        return EngineChoice(requested, f"wavefront: {how}; equals rows within {apart:.1e} nats on a sample of cells")
    what = f"wavefront differs from rows by {apart:.1e} nats on a sample of cells, more than {tolerance:.0e}"
    if requested != "auto":
        raise EngineError("--engine", what, "use --engine auto or rows")
    return EngineChoice("rows", "rows: the wavefront was not exact enough", f"{what}: all cells were run as rows")
