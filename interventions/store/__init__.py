"""A run's folder on disk."""

EXAMINED = "experiment"
"""Folder inside a run's in which an experiment keeps what it made of the run; it has a manifest of its own.

An experiment asked in another way has another beside it, whose name begins so."""
