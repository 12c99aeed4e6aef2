"""A process that ends with its plan leaves torch alone, and plans what it would have planned with it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.models import SIZES, byte_level_tokenizer, random_model

SPEC = "experiments/specs/patch_sweep.yaml"
OWN = "sys.argv[1:] = {arguments!r}; status = main()"
GIVEN = "status = main({arguments!r})"
COMMAND = """
import sys
from patchboard.commands.main import main
{call}
print("torch" in sys.modules, file=sys.stderr)
sys.exit(status)
"""


def planned(call: str, *arguments: str) -> tuple[str, bool]:
    """What the command printed, and whether it had torch imported."""
    code = COMMAND.format(call=call.format(arguments=["plan", SPEC, "--quiet", *arguments]))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (said,) = done.stderr.splitlines()  # transformers does not tell that torch is missing
    return done.stdout, said == "True"


def test_the_plan_is_the_same():
    alone, imported = planned(OWN, "--json")
    assert not imported
    usual, imported = planned(GIVEN, "--json")
    assert imported, "a list of arguments comes from a program, which may want torch later"
    assert json.loads(alone) == json.loads(usual)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("plugin") / "pieces.py"
    file.write_text(
        "import patchboard as pb\n\n\n@pb.register.position('first')\ndef first(prompt):\n    return (0,)\n"
    )
    return str(file)


def test_a_plug_in_may_want_torch(plugin):
    assert planned(OWN, f"--plugins={plugin}", "--tasks.bits=4")[1]


OPENED = """
import json, sys
from pathlib import Path
from patchboard.engine.without_torch import import_transformers_alone
if {alone}:
    import_transformers_alone()
from patchboard.engine.load import open_model
from patchboard.spec.sections import ModelSection

told = {{}}
for folder in sorted(Path({root!r}).iterdir()):
    tokenizer, facts = open_model(ModelSection(name=str(folder)))
    coded = tokenizer(["dog -> dogs", "naïve"], return_offsets_mapping=True, add_special_tokens=True)
    told[folder.name] = [repr(facts), coded["input_ids"], coded["offset_mapping"], tokenizer.bos_token_id]
assert ("torch" in sys.modules) == (not {alone})
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def families(tmp_path_factory) -> str:
    """A folder with a configuration and a tokenizer of each family."""
    root = tmp_path_factory.mktemp("families")
    for family in SIZES:
        random_model(family).config.save_pretrained(root / family)
        byte_level_tokenizer().save_pretrained(root / family)
    return str(root)


def test_all_families_open_the_same(families):
    def opened(alone: bool) -> dict:
        code = OPENED.format(alone=alone, root=families)
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    alone = opened(True)
    assert set(alone) == set(SIZES)
    assert alone == opened(False)
