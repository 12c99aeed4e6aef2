"""Two small tasks, with answers of one token (most capitals) and of several (a word said twice)."""

from __future__ import annotations

import json
from pathlib import Path

_CAPITALS = """
France Paris, Japan Tokyo, Italy Rome, Spain Madrid, Germany Berlin, Russia Moscow, Egypt Cairo, Greece Athens,
Portugal Lisbon, Austria Vienna, Ireland Dublin, Norway Oslo, Poland Warsaw, Cuba Havana, Peru Lima, Kenya Nairobi,
Hungary Budapest, Iran Tehran, Iraq Baghdad, Turkey Ankara, Canada Ottawa, Finland Helsinki, Argentina Buenos-Aires,
Mexico Mexico-City
"""
_WORDS = """
cat, dog, house, river, green, seven, music, window, paper, stone, bread, horse, light, water, table, garden, winter,
salt, north, clock, silver, forest, engine, letter
"""


def write_pairs(folder: Path) -> list[str]:
    """Paths of the two files."""
    capitals = [pair.split(" ") for pair in _split(_CAPITALS)]
    tasks = {
        "capital": [{"input": country, "output": city.replace("-", " ")} for country, city in capitals],
        "twice": [{"input": word, "output": f"{word} {word}"} for word in _split(_WORDS)],
    }
    files = [folder / f"{task}.json" for task in tasks]
    for file, rows in zip(files, tasks.values(), strict=True):
        file.write_text(json.dumps(rows))
    return [str(file) for file in files]


def _split(text: str) -> list[str]:
    return [each.strip() for each in text.replace("\n", " ").split(",")]
