"""What W&B's agent has chosen for this process: the point's parameters, as values and not as a command line's text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patchboard.track.mode import sweep_of


def point_of(environment: Mapping[str, str]) -> dict[str, Any]:
    """Parameter -> value, from the file that the agent writes for each run; empty where no agent is at work."""
    file = Path(environment.get("WANDB_SWEEP_PARAM_PATH", ""))
    if sweep_of(environment) is None or not file.is_file():
        return {}
    import yaml

    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8"))  # YAML 1.1, as wandb writes it
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    entries = entries if isinstance(entries, dict) else {}
    return {name: entry["value"] for name, entry in entries.items() if isinstance(entry, dict) and "value" in entry}
