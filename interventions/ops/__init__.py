"""Ops, one a file; importing this package enrols all of them."""

from patchboard.ops import ablate, add, patch, resample, scale, zero
from patchboard.ops.base import OPS, Op, SubspaceTensors

__all__ = ["OPS", "Op", "SubspaceTensors", "ablate", "add", "patch", "resample", "scale", "zero"]
