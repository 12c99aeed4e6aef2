"""A sweep file -> SweepFile. Read as W&B reads it; what would mean something else there is refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from patchboard.errors import SpecError
from patchboard.registry import suggest
from patchboard.spec.kinds import refuse_other_kind
from patchboard.spec.values import shown
from patchboard.spec.yaml_text import parse_yaml
from patchboard.sweeps.parameter import Parameter, parameter_of

METHODS = ("grid", "random", "bayes")
_DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
_KEYS = ("program", "method", "metric", "parameters", "command", "run_cap", "name", "description", "project", "entity")


@dataclass(frozen=True)
class SweepFile:
    """name: of the file. goal: of the metric. cap: most points, where the file gives it."""

    name: str
    program: str
    method: Literal["grid", "random", "bayes"]
    metric: str | None
    goal: Literal["minimize", "maximize"]
    parameters: tuple[Parameter, ...]
    command: tuple[str, ...]
    cap: int | None

    @property
    def varied(self) -> tuple[Parameter, ...]:
        return tuple(parameter for parameter in self.parameters if parameter.varies)

    @property
    def digest(self) -> str:
        """Of what all points share: the command, and the files that it names. Not of the values to try.

        So a longer grid, or a search by another method, finds the points that are there already.
        """
        files = [Path(item) for item in (self.program, *self.command)]
        files.append(Path(self.program).parent / "specs" / f"{Path(self.program).stem}.yaml")  # a script's own spec
        contents = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}
        text = json.dumps([self.program, self.command, contents], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def load_sweep(path: Path) -> SweepFile:
    """Raises SpecError, one line, for what is no sweep file, or none that means the same here and in W&B."""
    tree = _tree(path)
    where = str(path)
    for key in tree:
        if key == "early_terminate":
            what = "a run logs at its end, so there is nothing to stop early"
            raise SpecError(f"{where}: early_terminate", what, "remove it")
        if key not in _KEYS:
            raise SpecError(f"{where}: {key}", "is no key of a sweep file that is run here", suggest(str(key), _KEYS))
    program, method = tree.get("program"), tree.get("method")
    if not isinstance(program, str) or not Path(program).is_file():
        what = f"found {shown(program)}, expected a script's path from where you run the command"
        raise SpecError(f"{where}: program", what, "write program: experiments/patch_sweep.py")
    if method not in METHODS:
        raise SpecError(f"{where}: method", f"found {shown(method)}", suggest(str(method), METHODS))
    parameters = tree.get("parameters")
    if not isinstance(parameters, Mapping) or not parameters:
        raise SpecError(f"{where}: parameters", f"found {shown(parameters)}, expected paths with values", "add one")
    metric, goal = _metric(tree.get("metric"), f"{where}: metric")
    if method == "bayes" and metric is None:
        raise SpecError(f"{where}: metric", "is missing, a Bayesian search needs one", "add metric: {name: …, goal: …}")
    return SweepFile(
        name=path.stem,
        program=program,
        method=method,
        metric=metric,
        goal=goal,
        parameters=tuple(
            parameter_of(str(name), entry, f"{where}: parameters.{name}") for name, entry in parameters.items()
        ),
        command=_command(tree.get("command"), f"{where}: command", parameters),
        cap=_cap(tree.get("run_cap"), f"{where}: run_cap"),
    )


def _tree(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SpecError(str(path), f"cannot be read ({reason})", "give the path of a sweep file") from None
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, Mapping):
        raise SpecError(str(path), f"holds {shown(tree)}, expected a mapping", "see docs/sweeps.md for an example")
    refuse_other_kind(tree, "sweep", str(path))
    tree = json.loads(json.dumps(tree, default=str))
    _same(tree, json.loads(json.dumps(yaml.safe_load(text), default=str)), str(path))
    return tree


def _same(here: Any, there: Any, where: str) -> None:
    """W&B reads YAML 1.1, where 2:5 is 125, 1e-3 is text and `on` is true. Raises SpecError at the first such value."""
    if isinstance(here, Mapping) and isinstance(there, Mapping) and here.keys() == there.keys():
        for key in here:
            _same(here[key], there[key], f"{where}: {key}")
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for i, pair in enumerate(zip(here, there, strict=True)):
            _same(*pair, f"{where}[{i}]")
    elif here != there or type(here) is not type(there):
        what = f"W&B reads {shown(there)} (YAML 1.1), patchboard {shown(here)} (YAML 1.2)"
        raise SpecError(where, what, "quote it, or write a number as 0.001")


def _metric(entry: Any, where: str) -> tuple[str | None, Literal["minimize", "maximize"]]:
    if entry is None:
        return None, "minimize"
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str) or set(entry) - {"name", "goal"}:
        raise SpecError(where, f"found {shown(entry)}, expected name and goal", "write {name: …, goal: maximize}")
    goal = entry.get("goal", "minimize")
    if goal not in ("minimize", "maximize"):
        raise SpecError(f"{where}.goal", f"found {shown(goal)}", "write minimize or maximize")
    return entry["name"], goal


def _command(entry: Any, where: str, parameters: Mapping[str, Any]) -> tuple[str, ...]:
    from patchboard.sweeps.command import MACROS, OTHER_FORMS

    if entry is None:
        return _DEFAULT_COMMAND
    if not isinstance(entry, list) or not all(isinstance(item, str | int | float) for item in entry):
        raise SpecError(where, f"found {shown(entry)}, expected a list", "write it as a list of words")
    command = [_with_variables(str(item), where) for item in entry]
    for item in command:
        if item in OTHER_FORMS:
            what = f"'{item}' writes {OTHER_FORMS[item]}, and a run reads --PATH=VALUE"
            raise SpecError(where, what, "use ${args}")
        if "${" in item and item not in MACROS:
            raise SpecError(where, f"'{item}' is no macro that is known here", suggest(item, MACROS))
        if item == "--out" or item.startswith("--out="):
            raise SpecError(where, "all points would share the folder of --out", "remove it")
    if not {"${args}", "${args_no_boolean_flags}"} & set(command):
        raise SpecError(where, "has no ${args}, so no parameter would reach a point", "add ${args}")
    if "${args_no_boolean_flags}" in command:
        _without_booleans(parameters, where)
    return tuple(command)


def _with_variables(item: str, where: str) -> str:
    """``${envvar:NAME}`` filled in. Raises SpecError where it is not set: W&B would write its name."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise SpecError(where, f"the variable {match[1]} is not set", f"export {match[1]}, or write the value")
        return os.environ[match[1]]

    return re.sub(r"\$\{envvar:([A-Z0-9_]*)\}", value, item)


def _without_booleans(parameters: Mapping[str, Any], where: str) -> None:
    """Raises SpecError for a parameter that may be true or false: ``${args_no_boolean_flags}`` would lose it."""
    for name, entry in parameters.items():
        values = entry.get("values", [entry.get("value")]) if isinstance(entry, Mapping) else []
        if any(isinstance(value, bool) for value in values if isinstance(values, list)):
            what = f"'${{args_no_boolean_flags}}' writes nothing for false and no value for true, which {name} may be"
            raise SpecError(where, what, "use ${args}, which writes both")


def _cap(entry: Any, where: str) -> int | None:
    if entry is not None and (type(entry) is not int or entry < 1):
        raise SpecError(where, f"found {shown(entry)}, expected a whole number ≥ 1", "write a number of points")
    return entry
