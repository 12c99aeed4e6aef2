"""Kinds of vector, one a file; importing this package enrols all of them, in alphabetical order of their files."""

from patchboard.registry import import_modules
from patchboard.vectors.fitters.base import FITTERS, Builders, Fitter, builders, learned_kind

import_modules(__name__, __path__)

__all__ = ["FITTERS", "Builders", "Fitter", "builders", "learned_kind"]
