"""What a sweep's own file adds: a row for the sweep, its points' parameters, and points that left no folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from patchboard.report.numbers import counted, plain
from patchboard.report.run_files import setting_label
from patchboard.store.integrity import read_json
from patchboard.view.find import SWEEP, Place
from patchboard.view.rows import Row


@dataclass(frozen=True)
class Sweep:
    """A sweep that was run here. points: folder's name -> its entry in the sweep's file."""

    row: Row
    points: Mapping[str, Mapping[str, Any]]

    def told(self, row: Row, name: str) -> Row:
        """A point's row, with its parameters and, where it failed, the line. name: of its folder."""
        point = self.points.get(name)
        if point is None:
            return row
        row = replace(row, point=setting_label(point["parameters"]))
        failed = point["status"] and row.status not in ("finished", "running")
        return replace(row, status="failed", told=str(point["message"])) if failed else row

    def without_folder(self, there: set[str]) -> list[Row]:
        """Rows of failed points that left nothing behind. there: names of the folders that are."""
        gone = [(name, point) for name, point in self.points.items() if name not in there and point["status"]]
        return [self.told(Row(f"{self.row.folder}/{name}", name=self.row.name), name) for name, _ in gone]


def sweep_of(place: Place) -> Sweep:
    """Of a folder with a sweep's file; a damaged one is a row that says so."""
    folder = "/".join(place.relative) or place.path.name
    try:
        tree = read_json(place.path / SWEEP)
        points = {point["folder"]: point for point in tree["points"]}
        failed = sum(point["status"] != 0 for point in points.values())
        told = counted(len(points), "point") + (f", {failed} failed" if failed else "")
        best = tree["best"]
        if best:
            told += f"; {tree['goal']}d {tree['metric']}: {plain(best['value'])} at {setting_label(best['parameters'])}"
        row = Row(folder, tree["name"], status="sweep", told=told, when=place.files[SWEEP].changed / 1e9)
        return Sweep(replace(row, digest=tree["digest"][:8]), points)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Sweep(Row(folder, told=f"{SWEEP} cannot be read ({type(error).__name__})"), {})
