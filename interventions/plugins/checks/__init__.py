"""What every piece of a kind promises, as tests that ``patchboard check`` runs on users' pieces and ours pass too."""

from patchboard.plugins.checks.promise import Finding, Promise
from patchboard.plugins.checks.registered import PROMISES, findings

__all__ = ["PROMISES", "Finding", "Promise", "findings"]
