"""Studies checked and planned, and where their runs lie. Imports little: `--plan` waits for nothing that runs need."""

from __future__ import annotations

from pathlib import Path

from patchboard.engine.load import open_model
from patchboard.plan.build import build_plans
from patchboard.plan.model import ModelPlan
from patchboard.plan.validate import check_study
from patchboard.spec import Study


def plan_study(study: Study) -> list[ModelPlan]:
    """Check and plan, without weights. Raises PatchboardError."""
    check_study(study)
    return build_plans(study, open_model)


def folder_of(study: Study, out: Path | None) -> Path:
    return out or Path("runs") / f"{study.name}-{study.digest[:8]}"
