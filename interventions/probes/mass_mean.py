"""mass_mean: the nearest class mean, measured by the covariance within classes."""

from __future__ import annotations

from typing import Any, ClassVar

from patchboard.probes.base import PROBES


@PROBES.register("mass_mean")
class MassMean:
    """The task whose mean m lies nearest by (h - m)' S⁻¹ (h - m), S the covariance within tasks, shrunk as Ledoit &
    Wolf (2004) say: linear discriminant analysis, of two tasks the mass-mean probe of Marks & Tegmark (2023)."""

    linear: ClassVar[bool] = True

    @staticmethod
    def classifier(k: int, seed: int) -> Any:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
