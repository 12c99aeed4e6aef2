"""Help and validation import nothing heavy, and Ctrl-C is answered from the first import on."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.unit.test_structure import HEAVY

IMPORTED = "import atexit, sys; atexit.register(lambda: print('IMPORTED', *sys.modules))\n"
SCRIPT = "experiments/patch_sweep.py"
SPEC = "experiments/specs/patch_sweep.yaml"
COMMANDS = {
    "script help": f"import runpy; sys.argv = ['x', '--help']; runpy.run_path({SCRIPT!r}, None, '__main__')",
    "help": "from patchboard.commands.main import main; main(['--help'])",
    "run help": "from patchboard.commands.main import main; main(['run', '--help'])",
    "view help": "from patchboard.commands.main import main; main(['view', '--help'])",
    "validate": f"from patchboard.commands.main import main; sys.exit(main(['validate', {SPEC!r}]))",
    "wrong spec": "from patchboard.commands.main import main; sys.exit(main(['run', 'no-such-file.yaml']))",
}


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("command", COMMANDS)
def test_it_imports_nothing_heavy(command):
    done = python(IMPORTED + COMMANDS[command])
    assert done.returncode == (2 if command == "wrong spec" else 0), done.stderr
    imported = done.stdout.splitlines()[-1].split()
    assert imported[0] == "IMPORTED" and "patchboard.cli.guard" in imported
    assert not {*HEAVY, "polars", "scipy", "pandas", "rich"} & set(imported)
    if "help" in command:
        assert not {"numpy", "pydantic", "ruamel"} & set(imported)


INTERRUPT = """
import sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from patchboard.commands.main import main
sys.exit(main(["plan", {spec!r}]))
"""


@pytest.mark.parametrize("module", ["patchboard.errors", "argparse", "pydantic", "numpy", "transformers"])
def test_an_interrupt_in_an_import_is_one_line(module):
    done = python(INTERRUPT.format(module=module, spec=SPEC))
    assert done.returncode == 130
    assert done.stderr == "interrupted: finished parts are kept, the same command resumes\n"


def test_the_way_in_imports_next_to_nothing():
    """What it imports comes before any interrupt can be caught."""
    tree = ast.parse((ROOT / "interventions" / "cli" / "guard.py").read_text())
    imports = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports == ["from __future__ import annotations", "import sys"]
