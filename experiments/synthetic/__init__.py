"""Mixture of sparse linear regression: a model trained from nothing, watched as its task vectors emerge."""
