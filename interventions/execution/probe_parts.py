"""What is kept of a decoding's probes while a run is unfinished, a file a layer, and the tables made of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from patchboard.execution.model_run import ModelRun
from patchboard.measure.decodability import label_codes
from patchboard.measure.outcomes import plain
from patchboard.measure.probe_table import Probed, probe_table
from patchboard.measure.probing import (
    Asked,
    control_task,
    cross_validated,
    folds_of,
    random_features,
)
from patchboard.measure.statistics import Bootstrap
from patchboard.plan.model import Decoding
from patchboard.plan.queries import before_answer, points_of, query_groups
from patchboard.probes import PERMUTATIONS
from patchboard.store.folder import RunFolder

States = Callable[[int, int], NDArray[np.float32]]
"""(layer, number of the shots) -> [point, d_model]."""


class ProbeParts:
    """The probes of one decoding, on the model's states or on an untrained twin's."""

    def __init__(self, run: ModelRun, decoding: Decoding, twin: bool = False):
        self.run, self.decoding, self.twin = run, decoding, twin
        section, prompts = decoding.section, points_of(decoding)
        self.asked = Asked(section.probes, section.k, decoding.seed)
        self.labels = [prompt.task for prompt in prompts]
        self.codes = label_codes(self.labels)
        self.queries = [np.array(query_groups(prompts, shots)) for shots in section.shots]

    def missing(self) -> list[int]:
        """Layers of which there is no file yet; none where the spec asks for no probes."""
        layers = range(self.run.plan.facts.layers if self.asked.probes else 0)
        return [layer for layer in layers if not self.run.folder.has(self._file(f"l{layer}"))]

    def fit(self, layers: list[int], states: States, whose: str) -> None:
        """Fit and write these layers' probes. whose: before what a progress bar says."""
        folds = [folds_of(self.codes, queries, self.asked.seed) for queries in self.queries]
        step = self.run.progress.counter(f"{whose}probes", len(layers) * sum(map(len, folds)))
        for layer in layers:
            given, right = [], []
            for number, parted in enumerate(folds):
                tasks = [] if self.twin else self._control_tasks(number)
                found = cross_validated(states(layer, number), [self.codes, *tasks], parted, self.asked, step)
                given.append(found[0])
                right.append(np.mean([one == task for one, task in zip(found[1:], tasks, strict=True)] or [0], axis=0))
            more = {} if self.twin else {"control": np.stack(right)}
            self.run.folder.write_arrays(self._file(f"l{layer}"), {"given": np.stack(given), **more})

    def fit_features(self) -> None:
        """Fit and write the probes on random features of the prompts' tokens, unless they are in the folder."""
        if not self._lack_features():
            return
        given = []
        for shots, queries in zip(self.decoding.section.shots, self.queries, strict=True):
            tokens = [prompt.token_ids[: before_answer(prompt, shots) + 1] for prompt in points_of(self.decoding)]
            features = random_features(tokens, self.run.plan.facts.width, self.asked.seed)
            folds = folds_of(self.codes, queries, self.asked.seed)
            given.append(cross_validated(features, [self.codes], folds, self.asked)[0])
        self.run.folder.write_arrays(self._file("tokens"), {"given": np.stack(given)})

    def all_there(self) -> bool:
        """Whether nothing is missing of the model's own."""
        return not self.missing() and not self._lack_features()

    def _lack_features(self) -> bool:
        return bool(self.asked.probes) and not self.run.folder.has(self._file("tokens"))

    def given(self) -> NDArray[np.int64]:
        """[shots, layer, probe, point] codes of the labels that the probes give."""
        return self._of_layers("given")

    def table(self, bootstrap: Bootstrap) -> pl.DataFrame:
        """store.schema.PROBED of the decoding, from the files."""
        given, control = self.given(), self._of_layers("control")
        features = _read(self.run.folder, self._file("tokens"), "given")
        twin = ProbeParts(self.run, self.decoding, twin=True).given() if self.decoding.section.twin else None
        probed = {
            shots: Probed(
                self.queries[s], given[s], control[s], features[s], None if twin is None else twin[s]
            )
            for s, shots in enumerate(self.decoding.section.shots)
        }  # fmt: skip
        return probe_table(probed, self.asked.probes, self.labels, bootstrap)

    def _control_tasks(self, number: int) -> list[NDArray[np.int64]]:
        labels, queries = int(self.codes.max()) + 1, self.queries[number]
        return [control_task(queries, labels, n, self.asked.seed) for n in range(PERMUTATIONS)]

    def _of_layers(self, name: str) -> NDArray:
        """[shots, layer, …]"""
        layers = range(self.run.plan.facts.layers)
        return np.stack([_read(self.run.folder, self._file(f"l{layer}"), name) for layer in layers], axis=1)

    def _file(self, of: str) -> str:
        return f"parts/{self.run.prefix}{self.decoding.id}{'-twin' * self.twin}-probes-{of}.npz"


def probe_tables(run: ModelRun, bootstrap: Bootstrap) -> list[pl.DataFrame]:
    """The table of each of the plan's decodings with probes, once for each point that shares it."""
    tables = []
    for decoding in run.plan.decodings:
        if decoding.section.probes:
            table = ProbeParts(run, decoding).table(bootstrap)
            tables += [
                table.with_columns(pl.lit(plain(value)).alias(path) for path, value in swept)
                for swept in decoding.swept
            ]
    return tables


def _read(folder: RunFolder, name: str, array: str) -> NDArray:
    with np.load(folder.path / name) as stored:
        return stored[array]
