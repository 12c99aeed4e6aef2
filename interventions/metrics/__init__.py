"""Metrics, one a file; importing this package enrols all of them."""

from patchboard.metrics import accuracy, kl, logit_difference, logprob, probability, rank
from patchboard.metrics.base import METRICS, Metric

__all__ = ["METRICS", "Metric", "accuracy", "kl", "logit_difference", "logprob", "probability", "rank"]
