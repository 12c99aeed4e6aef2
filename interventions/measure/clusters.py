"""Intervals of means over points that come in clusters: queries are resampled, each with all of its points.

Source: Cameron, Gelbach & Miller, Bootstrap-Based Improvements for Inference with Clustered Errors (2008), the pairs
cluster bootstrap; of unequal clusters the mean is a ratio of two sums.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from patchboard.measure.statistics import Bootstrap, Floats, Replicates, drawn


def cluster_interval(values: Floats, clusters: NDArray[np.int64], bootstrap: Bootstrap) -> tuple[Floats, Floats]:
    """Percentile bootstrap interval of the mean over points of each cell: (low, high), each [cells].

    values: [points, cells], none NaN. clusters: [points] numbers.
    """
    _, place = np.unique(clusters, return_inverse=True)
    count, cells = int(place.max()) + 1, values.shape[1]
    low, high = np.empty((2, cells))
    sums, sizes = np.zeros((count, cells)), np.repeat(np.bincount(place)[:, None].astype(float), cells, axis=1)
    np.add.at(sums, place, values)
    for start in range(0, cells, bootstrap.cells_at_once):
        part = slice(start, min(start + bootstrap.cells_at_once, cells))
        replicates = Replicates(part.stop - part.start, bootstrap.resamples)
        replicates.divisor = Replicates(part.stop - part.start, bootstrap.resamples)
        for resamples, counts in drawn("queries", count, bootstrap):
            replicates.add(sums[:, part], counts, slice(None), resamples)
            replicates.divisor.add(sizes[:, part], counts, slice(None), resamples)
        low[part], high[part] = replicates.interval(bootstrap.level)
    return low, high
