"""Patch, add and ablate at every layer: where does a task vector act, and where can the task be decoded?

python experiments/patch_sweep.py                      # the embedded model, under a minute
python experiments/patch_sweep.py my.yaml --layers 0:80:4
"""

import sys
from pathlib import Path

from patchboard.cli.guard import script

if __name__ == "__main__":
    sys.exit(script(Path(__file__).parent / "specs" / "patch_sweep.yaml", (__doc__ or "").splitlines()[0]))
