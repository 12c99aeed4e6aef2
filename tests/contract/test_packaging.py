"""What is installed: one package of one name, whole, and unmoved by files of the same names where the user stands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from patchboard.errors import ModelError
from patchboard.extras import LIBRARIES, require_extra

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
FOLDERS = {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()}


def packages() -> set[str]:
    return {
        ".".join((package, *init.parent.relative_to(folder).parts))
        for package, folder in FOLDERS.items()
        for init in folder.rglob("__init__.py")
    }


def test_every_folder_of_code_is_installed():
    assert set(SETUPTOOLS["packages"]) == packages()
    assert len(SETUPTOOLS["packages"]) == len(set(SETUPTOOLS["packages"]))


def test_the_type_checker_sees_every_room():
    """``typings/patchboard`` stands for setuptools' table; mend it by ``ln -s ../../interventions/NAME``."""
    links = {link.name: link.resolve() for link in (ROOT / "typings" / "patchboard").iterdir()}
    ours = {e.name: e for e in FOLDERS["patchboard"].iterdir() if e.suffix == ".py" or (e / "__init__.py").exists()}
    nested = {name.split(".")[1]: folder for name, folder in FOLDERS.items() if "." in name}
    assert links == {name: entry.resolve() for name, entry in (ours | nested).items()}


def test_extras_are_those_that_are_asked_for():
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(LIBRARIES) == set(extras) - {"all", "test", "dev"}


def test_a_missing_extra_is_one_line(monkeypatch):
    monkeypatch.setitem(LIBRARIES, "gguf", "no_such_module")
    with pytest.raises(ModelError) as caught:
        require_extra("gguf", ModelError, "model.name", "'a.gguf'")
    assert caught.value.one_line() == (
        "model.name: 'a.gguf' needs the package no_such_module, which is not installed here; "
        "pip install 'patchboard[gguf]'"
    )


@pytest.fixture
def hostile(tmp_path) -> Path:
    """A folder whose modules have the names of our repository's folders."""
    for name in ("tasks", "experiments"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    for name in ("interventions", "sweeps"):
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    return tmp_path


CELLS = """
import tasks, interventions, experiments, sweeps
import patchboard, patchboard.tasks.base, patchboard.engine.families, patchboard.experiments
assert all(module.MINE for module in (tasks, interventions, experiments, sweeps))
print(patchboard.__file__)
"""


def run(python: Path | str, arguments: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run([str(python), *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_folder_with_our_names_does_not_hide_us(hostile):
    """As this environment has it installed, which for developers is an editable install."""
    run(sys.executable, ["-c", CELLS], hostile)


@pytest.mark.slow
def test_the_wheel_is_whole_and_runs_in_a_folder_with_our_names(hostile, tmp_path_factory):
    made = tmp_path_factory.mktemp("wheel")
    source = made / "source"  # without what an earlier build has left beside it
    left = shutil.ignore_patterns("build", ".*", "runs", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, symlinks=True, ignore=left)
    run(sys.executable, ["-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(made), str(source)], made)
    (wheel,) = made.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"patchboard"}
    shipped = {name.removesuffix("/__init__.py").replace("/", ".") for name in names if name.endswith("/__init__.py")}
    assert shipped == packages()
    data = [f"tasks/data/{file}" for file in ("sentences.txt", "pairs/README.md", "pairs/verbs/past.json")]
    for file in ("py.typed", "embedded/weights/model.safetensors", "report/page.html.j2", *data):
        assert f"patchboard/{file}" in names, file

    venv.create(made / "environment", with_pip=False)
    python = made / "environment" / "bin" / "python"
    (site,) = (made / "environment" / "lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    others = [folder for folder in sys.path if folder.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join(others))  # the dependencies, without this environment's patchboard
    assert run(python, ["-c", CELLS], hostile).strip().startswith(str(site))
    run(python, ["-m", "patchboard", "init", "patch-sweep"], hostile)
    told = run(python, ["-m", "patchboard", "plan", "patch-sweep.yaml"], hostile)
    assert "cells" in told
