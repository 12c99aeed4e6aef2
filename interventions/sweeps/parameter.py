"""A sweep's parameter: the distributions that W&B's sweep files have, as far as they are run locally."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from patchboard.errors import SpecError
from patchboard.registry import suggest
from patchboard.spec.values import shown

if TYPE_CHECKING:
    import optuna

Point = Mapping[str, Any]
"""Parameter -> value."""

FIELDS = {
    "constant": ("value",),
    "categorical": ("values",),
    "int_uniform": ("min", "max"),
    "uniform": ("min", "max"),
    "q_uniform": ("min", "max", "q"),
    "log_uniform": ("min", "max"),
    "log_uniform_values": ("min", "max"),
    "q_log_uniform_values": ("min", "max", "q"),
    "normal": ("mu", "sigma"),
}
"""Distribution -> the fields it takes, with W&B's names. ``log_uniform``'s bounds are natural exponents."""
DEFAULTS = {"q": 1, "mu": 0, "sigma": 1}


@dataclass(frozen=True)
class Parameter:
    """name: a spec path (``prompts.shots``), or a flag's name (``layers``). given: its fields, all there."""

    name: str
    distribution: str
    given: Mapping[str, Any]

    @property
    def varies(self) -> bool:
        return self.distribution != "constant"

    def grid(self) -> list[Any] | None:
        """All values; None where they cannot be counted."""
        if self.distribution == "constant":
            return [self.given["value"]]
        if self.distribution == "categorical":
            return list(self.given["values"])
        if self.distribution == "int_uniform":
            return list(range(self.given["min"], self.given["max"] + 1))
        if self.distribution == "q_uniform":
            low, high, q = (self.given[name] for name in ("min", "max", "q"))
            return [self._rounded(low + i * q) for i in range(math.floor((high - low) / q + 1e-9) + 1)]
        return None

    def draw(self, random: np.random.Generator) -> Any:
        """One value at random."""
        if self.distribution in ("constant", "categorical"):
            values = self.grid() or []
            return values[random.integers(len(values))]
        if self.distribution == "normal":
            return float(random.normal(self.given["mu"], self.given["sigma"]))
        if self.distribution == "int_uniform":
            return int(random.integers(self.given["min"], self.given["max"], endpoint=True))
        low, high = self._bounds()
        if "log" not in self.distribution:
            return self._rounded(float(random.uniform(low, high)))
        return self._rounded(math.exp(random.uniform(math.log(low), math.log(high))))

    def suggest(self, trial: optuna.Trial) -> Any:
        """The value that optuna's search takes next. Raises SpecError for ``normal``, which has no bounds."""
        if self.distribution in ("constant", "categorical"):
            values = self.grid() or []
            return values[trial.suggest_categorical(self.name, range(len(values)))]  # a value may be a list
        if self.distribution == "normal":
            raise SpecError(
                f"parameters.{self.name}", "normal has no bounds for a Bayesian search", "write min and max"
            )
        if self.distribution == "int_uniform":
            return trial.suggest_int(self.name, self.given["min"], self.given["max"])
        return self._rounded(trial.suggest_float(self.name, *self._bounds(), log="log" in self.distribution))

    def _bounds(self) -> tuple[float, float]:
        low, high = float(self.given["min"]), float(self.given["max"])
        return (math.exp(low), math.exp(high)) if self.distribution == "log_uniform" else (low, high)

    def _rounded(self, value: float) -> Any:
        """To the grid of ``q``; a whole number where ``q`` is one, since a spec takes no 4.0 for 4."""
        q = self.given.get("q")
        if q is None:
            return value
        return round(value / q) * q if isinstance(q, int) else round(round(value / q) * q, 12)


def parameter_of(name: str, entry: Any, where: str) -> Parameter:
    """The parameter that a sweep file gives under ``name``. Raises SpecError at ``where``."""
    if not isinstance(entry, Mapping) or not entry:
        raise SpecError(where, f"found {shown(entry)}, expected value, values or min and max", "see docs/sweeps.md")
    if "parameters" in entry:
        raise SpecError(where, "nested parameters reach no spec path", f"write it flat, as `{name}.FIELD: …`")
    distribution = entry.get("distribution") or _implied(entry, where)
    if distribution not in FIELDS:
        what = f"distribution {shown(distribution)} is none that is run here"
        raise SpecError(f"{where}.distribution", what, suggest(str(distribution), FIELDS))
    fields = FIELDS[distribution]
    for field in entry:
        if field not in (*fields, "distribution"):
            raise SpecError(f"{where}.{field}", f"{distribution} has no such field", f"give {' and '.join(fields)}")
    filled = {**{field: DEFAULTS[field] for field in fields if field in DEFAULTS}, **entry}
    for field in fields:
        if field not in filled:
            raise SpecError(f"{where}.{field}", f"is missing, {distribution} needs it", f"give {' and '.join(fields)}")
    _check(distribution, filled, where)
    return Parameter(name, distribution, {field: filled[field] for field in fields})


def _implied(entry: Mapping[str, Any], where: str) -> str:
    """What W&B takes where no distribution is given."""
    if "value" in entry:
        return "constant"
    if "values" in entry:
        return "categorical"
    if "min" in entry and "max" in entry:
        return "int_uniform" if all(type(entry[field]) is int for field in ("min", "max")) else "uniform"
    raise SpecError(where, "has neither value, values nor min and max", "give one of them")


def _check(distribution: str, entry: Mapping[str, Any], where: str) -> None:
    if distribution == "categorical" and (not isinstance(entry["values"], list) or not entry["values"]):
        raise SpecError(f"{where}.values", f"found {shown(entry['values'])}, expected a list", "write [v1, v2]")
    numbers = [field for field in FIELDS[distribution] if field not in ("value", "values")]
    for field in numbers:
        whole = distribution == "int_uniform"
        if type(entry[field]) not in ((int,) if whole else (int, float)) or not math.isfinite(entry[field]):
            what = f"found {shown(entry[field])}, expected a {'whole ' * whole}number"
            raise SpecError(f"{where}.{field}", what, "write a number")
    if "min" in numbers and entry["min"] >= entry["max"]:
        what = f"min is {entry['min']} and max is {entry['max']}"
        raise SpecError(where, what, "make max the larger one, or give one value")
    if distribution.endswith("log_uniform_values") and entry["min"] <= 0:
        raise SpecError(f"{where}.min", f"found {entry['min']}, a logarithm needs more than 0", "raise min")
    if entry.get("q", 1) <= 0 or entry.get("sigma", 1) < 0:
        raise SpecError(where, "q and sigma must be more than 0", "write a positive number")
