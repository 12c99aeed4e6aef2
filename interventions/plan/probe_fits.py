"""How many classifiers a plan fits: what probes cost, beside forward passes."""

from __future__ import annotations

from patchboard.plan.model import Decoding, Guarding, ModelPlan
from patchboard.probes import FOLDS, PERMUTATIONS, PROBES


def probe_fits(plan: ModelPlan) -> int:
    """Fits of all probes: of each layer, number of shots and fold, with control tasks, random features and twins, and
    after every edit that erases."""
    layers = plan.facts.layers
    return sum(_of_decoding(each, layers) for each in plan.decodings) + sum(
        _of_guarding(each, layers) for each in plan.guardings
    )


def _of_decoding(decoding: Decoding, layers: int) -> int:
    section = decoding.section
    labellings = layers * (1 + PERMUTATIONS + section.twin) + 1  # and once on random features
    return len(section.probes) * len(section.shots) * FOLDS * labellings


def _of_guarding(guarding: Guarding, layers: int) -> int:
    edited = [cell.cell.layer for cell in guarding.cells]
    unedited = layers - min(edited)
    crossed = FOLDS * len(guarding.section.probes) * (unedited + sum(layers - layer for layer in edited))
    linear = sum(PROBES.get(name, "guardedness.probes").linear for name in guarding.section.probes)
    return crossed + (linear * (unedited + len(edited)) if guarding.half == "fit" else 0)
