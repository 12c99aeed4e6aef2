"""What a forward pass of this process may hold: as the run began, so that a resumed run's packs are the same."""

from __future__ import annotations

from dataclasses import asdict

from transformers import PreTrainedModel

from patchboard.engine.device import device_of, devices_of
from patchboard.engine.memory import budget_for
from patchboard.execution.model_run import ModelRun
from patchboard.execution.placement import Placement
from patchboard.plan.packs import Budget


def budget_of(
    run: ModelRun, model: PreTrainedModel, what: str = "packs", placement: Placement | None = None
) -> tuple[Budget, list[str]]:
    """What a pass may hold: as the run began, on the same kind of device, else by the memory that is free now.

    what: it is for, under which the manifest notes it before anything is computed. placement: of processes that will
    compute such passes too. Also gives notes: where it had to change, that is told.
    """
    device, key = device_of(model), f"{run.prefix}{what}"
    budgets = run.folder.manifest.get("budgets", {})
    begun = budgets.get(key, {})
    of_pass = {name: begun[name] for name in begun if name != "device"}
    known = Budget(**of_pass) if begun.get("device") == device.type else None
    beside = len(placement.others) if placement and device.type == "cpu" else 0  # GPUs have memory of their own
    weights = placement.weights if placement else 0
    budget = budget_for(run.plan.facts, devices_of(model), model.dtype.itemsize, known, beside, weights)
    entry = {"device": device.type, **asdict(budget)}
    run.folder.update_manifest(budgets={**budgets, key: entry})
    if not begun or entry == begun:
        return budget, []
    changed = "another device" if known is None else "less free memory"
    return budget, [f"resumed with {changed}: later packs have other sizes, and may round otherwise"]
