"""kl_source: how far the next-token distribution still is from that of the run whose states are put in."""

from __future__ import annotations

from typing import ClassVar

from patchboard.metrics.base import METRICS, Reference
from patchboard.metrics.kl import KullbackLeibler


@METRICS.register("kl_source")
class SourceKullbackLeibler(KullbackLeibler):
    """KL(source || patched) = sum_t p(t) (log p(t) - log q(t)) at the first answer token, in nats, p being the run of
    the prompt whose states the edits put in; 0 where the edits make that run of this one. Its clean value is
    KL(source || clean). Not of edits without one such prompt."""

    reference: ClassVar[Reference] = "source"
