"""``python -m patchboard``: the command without its script."""

import sys

from patchboard.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
