"""knn: the label of most neighbours."""

from __future__ import annotations

from typing import Any, ClassVar

from patchboard.probes.base import PROBES


@PROBES.register("knn")
class NearestNeighbours:
    """The label of most of the k nearest training states by Euclidean distance: CD's vote, on scaled states and on
    queries that it never saw."""

    linear: ClassVar[bool] = False

    @staticmethod
    def classifier(k: int, seed: int) -> Any:
        from sklearn.neighbors import KNeighborsClassifier

        # by products of matrices: trees are no faster in hundreds of dimensions
        return KNeighborsClassifier(n_neighbors=k, algorithm="brute")
