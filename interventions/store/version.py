"""The version of a run folder's files, which is stamped into each."""

from __future__ import annotations

VERSION = 1
"""Raised whenever a column changes its name, type, unit or meaning."""

STAMP = "patchboard"
"""Key in the metadata of every table; its value is the version."""
