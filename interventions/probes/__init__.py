"""Probes, one a file; importing this package enrols all of them, in alphabetical order of their files."""

from patchboard.probes.base import FOLDS, PERMUTATIONS, PROBES, Probe
from patchboard.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["FOLDS", "PERMUTATIONS", "PROBES", "Probe"]
