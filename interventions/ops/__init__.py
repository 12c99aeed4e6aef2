"""Ops, one a file; importing this package enrols all of them, in alphabetical order of their files."""

from patchboard.ops.base import OPS, Op, SubspaceTensors, fitted_part, kinds_of, phrase_of
from patchboard.ops.feature_tensors import FeatureTensors
from patchboard.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["OPS", "FeatureTensors", "Op", "SubspaceTensors", "fitted_part", "kinds_of", "phrase_of"]
