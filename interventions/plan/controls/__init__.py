"""Controls, one a file; importing this package enrols all of them, in alphabetical order of their files."""

from patchboard.plan.controls.base import (
    CONTROLS,
    Control,
    ControlCell,
    LineStyle,
    PlacedIntervention,
    options_of,
)
from patchboard.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["CONTROLS", "Control", "ControlCell", "LineStyle", "PlacedIntervention", "options_of"]
