"""normalised_logit_difference: the logit difference between those of the corrupted and the clean run."""

from __future__ import annotations

from typing import ClassVar

from patchboard.metrics.base import METRICS
from patchboard.metrics.logit_difference import LogitDifference


@METRICS.register("normalised_logit_difference")
class NormalisedLogitDifference(LogitDifference):
    """(m - corrupted) / (clean - corrupted), each the mean of `logit_difference` over the queries: 0 is the corrupted
    run, 1 the clean one. The corrupted run is that of the prompt whose states the edits put in; with
    `prompts.corrupted` it is the run that is edited, and the clean one that of `base`. The interval is one of the
    ratio. No number where the interval of the denominator holds 0, nor of edits without one such prompt."""

    unit: ClassVar[str] = "share"
    normalised: ClassVar[bool] = True
