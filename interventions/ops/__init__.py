"""Ops, one a file; importing this package enrols all of them, in alphabetical order of their files."""

from patchboard.ops.base import OPS, Op, SubspaceTensors, fitted_part, phrase_of
from patchboard.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["OPS", "Op", "SubspaceTensors", "fitted_part", "phrase_of"]
