"""What `--launcher submitit` asks for: how jobs are submitted, checked against submitit's own parameters."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchboard.errors import SpecError
from patchboard.extras import require_extra
from patchboard.registry import suggest
from patchboard.spec.values import shown
from patchboard.spec.yaml_text import parse_yaml, plain
from patchboard.user_paths import expanded

LAUNCHERS = ("submitit",)
CLUSTERS = ("slurm", "local")
OPTIONS = "--launcher-options"
_CREATING = {"max_num_timeout": int, "python": str}
"""Of the executor itself. submitit has no list of these."""
_DEFAULTS = {"timeout_min": 240, "name": "patchboard"}
"""submitit's own timeout of 5 minutes (2 on this machine) is shorter than many a run."""


@dataclass(frozen=True)
class Launch:
    """How a sweep's points become jobs.

    cluster: slurm, or local for jobs of this machine. creating, parameters: of submitit's executor, as it names them.
    points_per_job: run one after the other. detach: submit, and do not wait.
    """

    cluster: str
    creating: Mapping[str, Any]
    parameters: Mapping[str, Any]
    points_per_job: int = 1
    detach: bool = False


def launch_of(
    launcher: str | None, options: str | Mapping[str, Any] | None, points_per_job: int | None, detach: bool
) -> Launch | None:
    """None where no launcher is asked for. options: ``name=value,name=value``, or a mapping, or a YAML file with one.

    Raises SpecError for a launcher, a cluster or a parameter that there is not, and for a value of another type.
    """
    if launcher is None:
        for flag, given in ((OPTIONS, options), ("--points-per-job", points_per_job), ("--detach", detach or None)):
            if given is not None:
                raise SpecError(
                    flag, "says how jobs are submitted, and no launcher is given", "add --launcher submitit"
                )
        return None
    if launcher not in LAUNCHERS:
        raise SpecError("--launcher", f"unknown launcher {launcher!r}", suggest(launcher, LAUNCHERS))
    if points_per_job is not None and points_per_job < 1:
        raise SpecError("--points-per-job", f"found {points_per_job}, expected a whole number ≥ 1", "give how many")
    require_extra("slurm", SpecError, "--launcher", "submitit")
    where, tree = _tree(options)
    cluster = tree.pop("cluster", None)
    if cluster is not None and cluster not in CLUSTERS:
        raise SpecError(f"{where}: cluster", f"found {shown(cluster)}", suggest(str(cluster), CLUSTERS))
    if cluster != "local" and shutil.which("sbatch") is None:
        what = "no SLURM is here (sbatch is not found)"
        raise SpecError(
            "--launcher", what, f"run it where SLURM is, or give {OPTIONS} cluster=local for jobs of this machine"
        )
    cluster = cluster or "slurm"
    creating = {name: _typed(tree.pop(name), _CREATING[name], f"{where}: {name}") for name in _CREATING if name in tree}
    parameters = {_full_name(name, cluster, where): (name, value) for name, value in {**_DEFAULTS, **tree}.items()}
    shared = _shared()
    checked = {
        full: _typed(value, shared[full], f"{where}: {name}") if full in shared else value
        for full, (name, value) in parameters.items()
    }
    return Launch(
        cluster, {f"{cluster}_{name}": value for name, value in creating.items()}, checked, points_per_job or 1, detach
    )


def _tree(options: str | Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Where the parameters stand, and these."""
    if options is None or isinstance(options, Mapping):
        return OPTIONS, dict(options or {})
    if "=" not in options:
        path = expanded(options)
        try:
            tree = parse_yaml(path.read_text(encoding="utf-8-sig"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            what = f"found {options!r}, which is no name=value, and no file that can be read ({reason})"
            raise SpecError(OPTIONS, what, "write partition=gpu,timeout_min=240, or give a YAML file") from None
        if not isinstance(tree, Mapping):
            raise SpecError(str(path), f"holds {shown(tree)}, expected a mapping", "write partition: gpu")
        return str(path), dict(tree)
    found: dict[str, Any] = {}
    for part in re.split(r",(?=\w+=)", options):  # a value may hold commas: nodelist=a1,a2
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise SpecError(OPTIONS, f"found {part!r}, expected name=value", "write partition=gpu,timeout_min=240")
        if name in found:
            raise SpecError(f"{OPTIONS}: {name}", "is given twice", "give it once")
        found[name] = plain(parse_yaml(value, f"{OPTIONS}: {name}"))
    return OPTIONS, found


def _full_name(name: str, cluster: str, where: str) -> str:
    """As submitit has it: ``slurm_partition`` for ``partition``. Raises SpecError for an unknown one."""
    from submitit.core.plugins import get_executors

    own = {cluster: get_executors()[cluster]._valid_parameters() for cluster in CLUSTERS}
    if name in _shared() or name in {f"{each}_{parameter}" for each in CLUSTERS for parameter in own[each]}:
        return name
    for each in (cluster, *CLUSTERS):  # one of the other cluster is passed over, so that one file is for both
        if name in own[each]:
            return f"{each}_{name}"
    known = sorted({"cluster", *_CREATING, *_shared(), *own["slurm"], *own["local"]})
    raise SpecError(f"{where}: {name}", "is no parameter of submitit", suggest(name, known))


def _shared() -> Mapping[str, type]:
    from submitit import AutoExecutor

    return AutoExecutor._typed_parameters()


def _typed(value: Any, kind: type, where: str) -> Any:
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        raise SpecError(where, f"found {shown(value)}, expected {names[kind]}", "write it so")
    return value


def jobs_folder(sweep_folder: Path) -> Path:
    """Where submitit writes what a job is and says: a folder for each, with ``%j`` for its id."""
    return sweep_folder.absolute() / "jobs" / "%j"
