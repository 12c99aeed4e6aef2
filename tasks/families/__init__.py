"""Task families, one a file; importing this package enrols all of them, in alphabetical order of their files."""

from patchboard.registry import import_modules
from patchboard.tasks.base import FAMILIES

import_modules(__name__, __path__)

__all__ = ["FAMILIES"]
