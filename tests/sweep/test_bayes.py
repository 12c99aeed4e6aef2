"""The Bayesian search on a function whose best point is known: it finds it, and resumes without losing anything."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from patchboard.errors import SpecError
from patchboard.sweeps.bayes import Bayes
from patchboard.sweeps.file import SweepFile
from patchboard.sweeps.parameter import Point, parameter_of

BEST = {"x": 1.7, "scale": 0.02, "kind": ["b", "c"]}
SPACE: dict[str, Any] = {
    "x": {"min": -5.0, "max": 5.0},
    "scale": {"distribution": "log_uniform_values", "min": 1e-4, "max": 10.0},
    "kind": {"values": ["a", ["b", "c"], None]},
    "fixed": {"value": True},
}


def sweep(goal: str = "maximize", space: dict[str, Any] = SPACE) -> SweepFile:
    parameters = tuple(parameter_of(name, given, name) for name, given in space.items())
    return SweepFile("s", "p.py", "bayes", "m", goal, parameters, (), None)  # type: ignore[arg-type]


def worth(point: Point) -> float:
    """0 at BEST, less anywhere else."""
    off = math.log(point["scale"] / BEST["scale"]) ** 2 / 4
    return -((point["x"] - BEST["x"]) ** 2) - off - 5 * (point["kind"] != BEST["kind"])


def searched(search: Bayes, stop_after: int | None = None) -> list[Point]:
    points = []
    while len(points) != stop_after and (point := search.ask()) is not None:
        points.append(point)
        search.tell(point, worth(point))
    return points


@pytest.mark.parametrize(("goal", "sign"), [("maximize", 1), ("minimize", -1)])
def test_it_nears_the_best_point(tmp_path, goal, sign):
    search = Bayes(sweep(goal), 60, tmp_path)
    found = []
    while (point := search.ask()) is not None:
        found.append(worth(point))
        search.tell(point, sign * worth(point))
    assert len(found) == 60
    assert sum(found[-20:]) / 20 > sum(found[:10]) / 10 + 5, "the last twenty are better than the random beginning"
    assert max(found) > -0.5


def test_a_resumed_search_asks_for_the_same_points_and_then_new_ones(tmp_path):
    first = searched(Bayes(sweep(), 20, tmp_path), stop_after=8)
    resumed = searched(Bayes(sweep(), 20, tmp_path))
    assert resumed[:8] == first and len(resumed) == 20
    assert len({json.dumps(point) for point in resumed}) == 20
    assert searched(Bayes(sweep(), 20, tmp_path)) == resumed, "nothing is left to be asked"
    assert searched(Bayes(sweep(), 5, tmp_path)) == resumed[:5]


def test_a_killed_point_is_asked_again_and_a_failed_one_can_still_come_good(tmp_path):
    search = Bayes(sweep(), 3, tmp_path)
    killed, failed, good = search.ask(), search.ask(), search.ask()
    assert killed and failed and good
    search.tell(failed, None)
    search.tell(good, worth(good))
    for _ in range(2):
        again = Bayes(sweep(), 3, tmp_path)
        points = searched(again)
        assert sorted(map(json.dumps, points)) == sorted(map(json.dumps, (killed, failed, good)))


def test_another_space_is_another_search(tmp_path):
    first = searched(Bayes(sweep(), 3, tmp_path))
    narrower = sweep(space={**SPACE, "x": {"min": 0.0, "max": 1.0}})
    points = searched(Bayes(narrower, 3, tmp_path))
    assert all(0 <= point["x"] <= 1 for point in points)
    assert searched(Bayes(sweep(), 3, tmp_path)) == first
    assert len(list(Path(tmp_path).glob("search-*.jsonl"))) == 2


def test_a_distribution_without_bounds_is_refused(tmp_path):
    endless = sweep(space={"x": {"distribution": "normal"}})
    with pytest.raises(SpecError, match="parameters.x: normal has no bounds for a Bayesian search; write min and max"):
        Bayes(endless, 1, tmp_path).ask()
