"""Whether a run is mirrored to W&B: from ``--wandb`` and the environment, without importing wandb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from patchboard.errors import SpecError

CHOICES = ("auto", "online", "offline", "off")

Want = Literal["auto", "online", "offline", "off"]
"""auto: online with a key, offline without."""

_MODES: dict[str, Want] = {
    "online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "off",
}  # fmt: skip
"""What wandb itself reads from WANDB_MODE, its two old names included."""

_TRUE = ("true", "1", "yes", "on")


def wanted(choice: str, environment: Mapping[str, str]) -> Want:
    """What the flag asks for; where it says ``auto``, what WANDB_DISABLED and WANDB_MODE ask for.

    Raises SpecError at WANDB_MODE for a mode that wandb does not have, or that does not fit one process a run.
    """
    if choice != "auto":
        return choice  # type: ignore[return-value]  # argparse holds it to CHOICES
    if environment.get("WANDB_DISABLED", "").strip().lower() in _TRUE:
        return "off"
    mode = environment.get("WANDB_MODE", "").strip().lower()
    if not mode:
        return "auto"
    if mode not in _MODES:
        raise SpecError("WANDB_MODE", f"found '{mode}', expected online, offline or disabled", "set one of them")
    return _MODES[mode]


def sweep_of(environment: Mapping[str, str]) -> str | None:
    """The sweep whose agent started this process, if one did."""
    return environment.get("WANDB_SWEEP_ID") or None
